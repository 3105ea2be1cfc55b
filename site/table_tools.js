// The controls above a table: search, filters by column, a choice of columns.
(() => {
  "use strict";
  const SEARCHED_FROM_ROWS = 5;
  const MOST_VALUES = 40;
  const { element } = vitptq;

  function tools(view) {
    const region = view.table.closest(".scroll") || view.table;
    const name = region.getAttribute("aria-label") || view.key;
    const bar = element("div", { className: "tools" });
    if (view.data.entries.length >= SEARCHED_FROM_ROWS) { bar.append(search(view, name)); }
    bar.append(menu("Filter", (panel) => filters(view, panel)), menu("Columns", (panel) => choice(view, panel)));
    const count = element("output", {});
    const reset = element("button", { type: "button", textContent: "Reset", hidden: true });
    reset.addEventListener("click", () => { view.show({}); vitptq.write(false); vitptq.say("As the page was written"); });
    bar.append(count, reset);
    view.listeners.push(() => {
      const changed = view.pairs().length > 0;
      const filtered = view.state.find || Object.keys(view.state.keep).length;
      count.textContent = filtered ? `${view.shown.length} of ${view.data.entries.length} rows` : "";
      reset.hidden = !changed;
    });
    region.before(bar);
    view.bar = bar;
  }

  function search(view, name) {
    const box = element("input", { type: "search", title: "Every word must be in the row; -word: must not" });
    let typed = false;
    box.setAttribute("aria-label", `Search rows: ${name}`);
    box.addEventListener("input", () => { view.change({ find: box.value.trim() }); vitptq.write(typed); typed = true; });
    box.addEventListener("blur", () => { typed = false; });
    view.listeners.push(() => { if (box.value.trim() !== view.state.find) { box.value = view.state.find; } });
    return element("label", { className: "search" }, "Search ", box);
  }

  // What is folded is made when it is first opened: a page may have many tables.
  vitptq.menu = menu;
  function menu(title, fill) {
    const folded = element("details", { className: "menu" }, element("summary", { textContent: title }));
    folded.addEventListener("toggle", () => {
      if (!folded.open || folded.children.length > 1) { return; }
      const panel = element("div", { className: "panel" });
      folded.append(panel);
      fill(panel);
    });
    return folded;
  }

  vitptq.boxes = boxes;
  function boxes(legend, values, isOn, change) {
    const set = element("fieldset", {}, element("legend", { textContent: legend }));
    const made = values.map(([value, text]) => {
      const box = element("input", { type: "checkbox", value });
      box.addEventListener("change", () => change(made.filter((other) => other.checked).map((other) => other.value)));
      set.append(element("label", {}, box, ` ${text}`));
      return box;
    });
    const update = () => made.forEach((box) => { box.checked = isOn(box.value); });
    update();
    return { set, update };
  }

  function choice(view, panel) {
    const all = view.data.columns.filter((column) => column.key && column.at > 0);
    const shown = boxes("Columns that are shown", all.map(({ key, name }) => [key, name]), (key) => !view.state.hide.includes(key), (on) => {
      view.change({ hide: all.map(({ key }) => key).filter((key) => !on.includes(key)) });
      vitptq.write(false);
    });
    view.listeners.push(shown.update);
    panel.append(shown.set);
  }

  function filters(view, panel) {
    const sections = view.data.groups.map((group) => group.name).filter(Boolean);
    if (sections.length > 1) { panel.append(values(view, "section", "Section", sections)); }
    for (const column of view.data.columns.filter(({ key }) => key)) {
      const known = view.data.values(column);
      if (column.kind === "number") {
        if (known.some((value) => value !== null)) { panel.append(range(view, column)); }
      } else {
        const different = Array.from(new Set(known.flatMap((value) => (value || "\u2013").split("\n"))));
        if (different.length > 1 && different.length <= MOST_VALUES) { panel.append(values(view, column.key, column.name, different)); }
      }
    }
  }

  function keep(view, key, wanted) {
    const { [key]: dropped, ...others } = view.state.keep;
    view.change({ keep: wanted ? { ...others, [key]: wanted } : others });
  }

  function values(view, key, name, all) {
    const shown = boxes(name, all.map((value) => [value, value]), (value) => (view.state.keep[key] || []).includes(value), (on) => {
      keep(view, key, on.length ? on : null);
      vitptq.write(false);
    });
    view.listeners.push(shown.update);
    return shown.set;
  }

  function range(view, column) {
    const ends = ["from", "to"].map((word) => {
      const box = element("input", { type: "number", step: "any" });
      box.setAttribute("aria-label", `${column.name}, ${word}`);
      box.addEventListener("change", () => {
        const wanted = ends.map((end) => (end.value === "" ? null : Number(end.value)));
        keep(view, column.key, wanted.some((end) => end !== null) ? wanted : null);
        vitptq.write(false);
      });
      return box;
    });
    const update = () => ends.forEach((box, i) => {
      const end = (view.state.keep[column.key] || [])[i];
      box.value = end === null || end === undefined ? "" : end;
    });
    view.listeners.push(update);
    update();
    return element("fieldset", { className: "range" }, element("legend", { textContent: column.name }), ends[0], " to ", ends[1]);
  }

  document.addEventListener("DOMContentLoaded", () => vitptq.views.forEach(tools));
})();
