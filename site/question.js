// Enhancement only: the question box of the overview. One answer is on the page; choosing another fills the same table in.
// In the fragment: ask=ANSWER, by its anchor on the page of all answers.
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  const box = document.getElementById("question");
  if (!box) { return; }
  const data = JSON.parse(document.getElementById("answers").textContent);
  const choices = data.choices.map(([table, bits, id, about = "", more = 0, rows = []]) => {
    const [task, model, page] = data.tables[table];
    return { task, model, page, bits, id, about, more, rows };
  });
  const first = choices.find((choice) => choice.id === box.dataset.first) || choices[0];
  const NAMES = ["task", "model", "bits"];
  const selects = {};
  let current = first;

  const element = (tag, properties, ...children) => vitptq.element(tag, properties, ...children);
  const link = (text, href) => element("a", { href }, text);

  // Each box offers what the ones before it leave.
  function left(names) { return choices.filter((choice) => names.every((name) => choice[name] === selects[name].value)); }

  function choose(wanted) {
    NAMES.forEach((name, place) => {
      const values = [...new Set(left(NAMES.slice(0, place)).map((choice) => choice[name]))];
      selects[name].replaceChildren(...values.map((value) => new Option(value, value)));
      selects[name].value = values.includes(wanted[name]) ? wanted[name] : values[0];
    });
    [current] = left(NAMES);
    fill(current);
  }

  function row([method, run, score, interval, drop, seconds, size, draws, fidelity]) {
    const [label, page] = data.methods[method];
    const number = (...content) => element("td", { className: "n" }, ...content);
    const below = (text) => element("span", { className: "sub" }, text);
    return element("tr", {},
      element("th", { scope: "row" }, link(label, page)), number(link(score, run), below(interval)),
      number(drop), number(seconds), number(size), element("td", {}, draws, below(fidelity)));
  }

  function fill(choice) {
    const table = box.querySelector("table");
    const about = choice.about ? `${choice.task}. ${choice.about}` : choice.task;
    table.caption.replaceChildren(element("strong", {}, `${choice.model} at ${choice.bits}`), " ", element("span", {}, about));
    table.tBodies[0].replaceChildren(...choice.rows.map(row));
    table.tHead.hidden = !choice.rows.length;
    const rest = choice.more ? `${choice.more} more, and the remarks` : "Remarks";
    box.querySelector("p").replaceChildren(
      link(choice.rows.length ? rest : "The answer, with its remarks", `which.html#${choice.id}`), " \u00b7 ",
      link(`all of ${choice.model}`, choice.page), " \u00b7 ", link("every model and bit width", "which.html"));
  }

  function changed() {
    choose(Object.fromEntries(NAMES.map((name) => [name, selects[name].value])));
    vitptq.write(false);
    vitptq.say(box.querySelector("caption").textContent);
  }

  const place = element("div", { className: "choices" });
  for (const name of NAMES) {
    selects[name] = element("select", {});
    selects[name].addEventListener("change", changed);
    place.append(element("label", {}, name.charAt(0).toUpperCase() + name.slice(1), selects[name]));
  }
  box.prepend(place);
  choose(first);
  vitptq.join({
    anchor: "ask",
    pairs: () => (current === first ? [] : [["ask", current.id]]),
    show: (state) => choose(choices.find((choice) => choice.id === state.ask) || first),
  });
});
