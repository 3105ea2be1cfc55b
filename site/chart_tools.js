// Charts: one method highlighted wherever it is drawn and in the rows of the tables, while the pointer or the focus is on
// it, or for as long as the fragment says so (mark=METHOD~METHOD); and a figure saved as SVG or PNG.
(() => {
  "use strict";
  const { element } = vitptq;
  const NAMESPACE = "http://www.w3.org/2000/svg";
  const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "font-family", "font-size", "font-style", "font-weight", "text-decoration-line"];
  const NOTE_LINE = 15;
  const PIXELS = 2;
  let marked = [];

  const drawn = () => Array.from(document.querySelectorAll("[data-series]"));

  function light(names) {
    const wanted = new Set(names);
    for (const one of drawn()) { one.classList.toggle("lit", wanted.has(one.dataset.series)); }
    for (const figure of document.querySelectorAll("figure[data-chart]")) { figure.classList.toggle("lighting", wanted.size > 0); }
    for (const { data } of vitptq.views) {
      for (const entry of data.entries) { entry.row.classList.toggle("lit", wanted.has(data.shownText(entry, data.columns[0]))); }
    }
  }

  function choose(names) { marked = names; light(marked); }

  function addHighlights(figure, all) {
    const under = (event) => event.target.closest("[data-series]");
    const on = (event) => { const one = under(event); if (one) { light([...marked, one.dataset.series]); } };
    const off = (event) => { if (under(event)) { light(marked); } };
    figure.addEventListener("pointerover", on);
    figure.addEventListener("pointerout", off);
    figure.addEventListener("focusin", on);
    figure.addEventListener("focusout", off);
    figure.addEventListener("keydown", step);
    return vitptq.menu("Highlight", (panel) => {
      const shown = vitptq.boxes("Methods", all.map((name) => [name, name]), (name) => marked.includes(name), (names) => {
        choose(names);
        vitptq.write(false);
      });
      addEventListener("viewchange", shown.update);
      panel.append(shown.set);
    });
  }

  // One stop of the tab key per panel; the arrow keys go through its methods.
  function addStops(figure) {
    for (const panel of figure.querySelectorAll("svg.dotplot")) {
      panel.querySelectorAll("a.dot").forEach((dot, i) => dot.setAttribute("tabindex", i ? "-1" : "0"));
    }
  }

  function step(event) {
    const by = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const dot = event.target.closest("a.dot");
    const next = by && dot && dot[by];
    if (next && next.matches("a.dot")) {
      dot.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
      event.preventDefault();
    }
  }

  function svg(tag, attributes, ...children) {
    const made = document.createElementNS(NAMESPACE, tag);
    for (const [name, value] of Object.entries(attributes)) { made.setAttribute(name, value); }
    made.append(...children);
    return made;
  }

  // Style sheets stay behind, so each copied element takes what they say along.
  function copied(original) {
    const copy = original.cloneNode(true);
    const copies = [copy, ...copy.querySelectorAll("*")];
    [original, ...original.querySelectorAll("*")].forEach((from, i) => {
      const style = getComputedStyle(from);
      for (const name of DRAWN) { copies[i].setAttribute(name, style.getPropertyValue(name)); }
      for (const name of ["class", "role", "tabindex", "href", "aria-labelledby"]) { copies[i].removeAttribute(name); }
    });
    return copy;
  }

  // Everything that the figure shows, where it stands, with its data and its address below it.
  function picture(figure) {
    const charts = Array.from(figure.querySelectorAll("svg.chart")).filter((chart) => chart.checkVisibility());
    const places = charts.map((chart) => chart.getBoundingClientRect());
    const left = Math.min(...places.map((place) => place.left));
    const top = Math.min(...places.map((place) => place.top));
    const width = Math.ceil(Math.max(...places.map((place) => place.right)) - left);
    const letters = Math.floor(width / 6.6);
    const said = [document.title, vitptq.source(), vitptq.permalink()].flatMap((line) => line.match(new RegExp(`.{1,${letters}}`, "g")));
    const base = Math.ceil(Math.max(...places.map((place) => place.bottom)) - top) + NOTE_LINE;
    const height = base + NOTE_LINE * said.length + 8;
    const { backgroundColor, color, fontFamily } = getComputedStyle(document.body);
    const whole = svg("svg", { xmlns: NAMESPACE, width, height, viewBox: `0 0 ${width} ${height}` }, svg("rect", { width, height, fill: backgroundColor }));
    charts.forEach((chart, i) => {
      const copy = copied(chart);
      const place = { x: places[i].left - left, y: places[i].top - top, width: places[i].width, height: places[i].height };
      for (const [name, value] of Object.entries(place)) { copy.setAttribute(name, value); }
      whole.append(copy);
    });
    said.forEach((line, i) => whole.append(svg("text", { x: 0, y: base + NOTE_LINE * i, "font-size": 11, "font-family": fontFamily, fill: color }, line)));
    return { width, height, text: new XMLSerializer().serializeToString(whole) };
  }

  function name(figure) { return vitptq.slug(`${vitptq.title()} ${figure.dataset.chart}`); }

  function saveDrawing(figure) { vitptq.save(new Blob([picture(figure).text], { type: "image/svg+xml" }), `${name(figure)}.svg`); }

  function savePixels(figure) {
    const { width, height, text } = picture(figure);
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = element("canvas", { width: width * PIXELS, height: height * PIXELS });
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => vitptq.save(blob, `${name(figure)}.png`));
    });
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const figure of document.querySelectorAll("figure[data-chart]")) {
      const all = Array.from(new Set(Array.from(figure.querySelectorAll("[data-series]"), (one) => one.dataset.series))).sort();
      const tools = element("div", { className: "tools" });
      if (all.length > 1) { tools.append(addHighlights(figure, all)); }
      for (const [title, save] of [["SVG", saveDrawing], ["PNG", savePixels]]) {
        const button = element("button", { type: "button", textContent: title });
        button.setAttribute("aria-label", `Save the chart as ${title}`);
        button.addEventListener("click", () => save(figure));
        tools.append(button);
      }
      addStops(figure);
      figure.append(tools);
    }
    vitptq.join({
      anchor: "chart",
      pairs: () => (marked.length ? [["mark", marked.map((one) => one.replace(/~/g, "%7E")).join("~")]] : []),
      show: (state) => choose((state.mark || "").split("~").filter(Boolean).map((one) => one.replace(/%7E/g, "~"))),
    });
  });
})();
