// What a table shows, as CSV, LaTeX, Markdown or BibTeX: the rows and columns of the current view in their order. Each
// says from which data and which view it is.
(() => {
  "use strict";
  const { element, source } = vitptq;
  const FORMATS = { CSV: csv, LaTeX: latex, Markdown: markdown, BibTeX: bibtex };
  const ENDINGS = { CSV: "csv", LaTeX: "tex", Markdown: "md", BibTeX: "bib" };
  const TWO_NUMBERS = /^([+\u2212-]?[\d.]+)(?: to | of |\u2013)([+\u2212-]?[\d.]+)$/;

  // A section's name is a column of its own.
  function columnsOf(view) {
    const sections = view.data.groups.some((group) => group.name);
    const section = { name: "Section", text: (entry) => entry.name };
    const columns = view.columns().map((column) => ({
      name: column.name,
      number: column.kind === "number",
      cell: (entry) => view.data.cell(entry, column),
      text: (entry) => view.data.shownText(entry, column).replace(/\n/g, "; "),
    }));
    return sections ? [section, ...columns] : columns;
  }

  function csv(view) {
    const columns = columnsOf(view).flatMap((column) => [column, ...secondLines(view, column)]).flatMap((column) => apart(view, column));
    const said = [source(), vitptq.permalink(), view.inWords()];
    const lines = view.shown.map((entry) => [...columns.map((column) => value(column, entry)), ...said.map(plain)]);
    return [[...columns.map(({ name }) => name), "data", "view", "filter"], ...lines].map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  }

  // What a cell says below its score or beside it, where the page gives it a name.
  function secondLines(view, column) {
    if (!column.cell) { return []; }
    const found = (entry) => Array.from(column.cell(entry) ? column.cell(entry).querySelectorAll("[data-as]") : []);
    const names = new Set(view.shown.flatMap((entry) => found(entry).map((part) => part.dataset.as)));
    const text = (entry, name) => {
      const part = found(entry).find((one) => one.dataset.as === name);
      return part ? part.dataset.value || part.textContent.trim() : "";
    };
    return Array.from(names, (name) => ({ name: `${column.name} ${name}`, text: (entry) => text(entry, name) }));
  }

  // An interval, a range of ranks or "2 of 3" is two columns.
  function apart(view, column) {
    const texts = view.shown.map(column.text);
    if (!texts.some((text) => TWO_NUMBERS.test(text)) || !texts.every((text) => TWO_NUMBERS.test(text) || /^[\d.]*$|^\u2013$/.test(text))) { return [column]; }
    const ends = texts.find((text) => TWO_NUMBERS.test(text)).includes(" of ") ? ["", ", of"] : [", low", ", high"];
    return ends.map((end, i) => ({
      name: column.name + end,
      text: (entry) => (TWO_NUMBERS.exec(column.text(entry)) || ["", column.text(entry), column.text(entry)])[i + 1],
    }));
  }

  // A column of numbers holds numbers only.
  function value(column, entry) {
    const text = plain(column.text(entry));
    return column.number && isNaN(Number(text)) ? "" : text;
  }

  // Numbers get an ASCII sign, unknown values are empty, and no text starts a spreadsheet's formula.
  function plain(text) {
    const ascii = text.replace(/\u2212/g, "-");
    if (text === "\u2013") { return ""; }
    if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(ascii)) { return ascii.replace(/^\+/, ""); }
    return /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(ascii) ? `'${ascii}` : ascii;
  }

  function quoted(text) { return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text; }

  const TEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", $: "\\$", "&": "\\&", "#": "\\#", "%": "\\%", _: "\\_",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", '"': "''",
    "\u2013": "--", "\u2212": "$-$", "\u00d7": "$\\times$", "\u2020": "$^{\\dagger}$",
  };
  function tex(text) { return text.replace(/\s+/g, " ").replace(/[\\{}$&#%_~^<>|"\u2013\u2212\u00d7\u2020]/g, (letter) => TEX[letter]); }

  // Needs the package booktabs. What is highest is bold only where it is shown to be better than all others.
  function latex(view) {
    const columns = columnsOf(view);
    const marks = new Set();
    const cell = (entry, column) => {
      const text = tex(column.text(entry));
      const mark = column.cell && column.cell(entry) ? column.cell(entry).dataset.mark : "";
      marks.add(mark);
      return mark === "best" ? `\\textbf{${text}}` : mark === "tied" ? `${text}$^{\\ast}$` : text;
    };
    const lines = view.shown.map((entry) => `${columns.map((column) => cell(entry, column)).join(" & ")} \\\\`);
    const remarks = [
      marks.has("best") ? "Bold: shown to be better than every other of its bits by paired tests." : "",
      marks.has("tied") ? "$^{\\ast}$: not shown to be worse than the highest of its bits." : "",
    ];
    return [
      `% ${source()}`, `% ${vitptq.permalink()}`, `% ${view.inWords()}`,
      "\\begin{table}", "\\centering",
      `\\caption{${[tex(title(view)), ...remarks, `${tex(source())}, ${tex(vitptq.permalink())} (${tex(view.inWords())}).`].filter(Boolean).join(" ")}}`,
      `\\label{tab:vitptq-${vitptq.slug(view.key)}}`,
      `\\begin{tabular}{${columns.map((column) => (column.number ? "r" : "l")).join("")}}`, "\\toprule",
      `${columns.map((column) => tex(column.name)).join(" & ")} \\\\`, "\\midrule", ...lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", "",
    ].join("\n");
  }

  function markdown(view) {
    const columns = columnsOf(view);
    const safe = (text) => text.replace(/\s+/g, " ").replace(/([\\`*_{}[\]<>#|])/g, "\\$1");
    const line = (cells) => `| ${cells.join(" | ")} |`;
    return [
      `**${safe(title(view))}**`, "", line(columns.map((column) => safe(column.name))), line(columns.map((column) => (column.number ? "---:" : "---"))),
      ...view.shown.map((entry) => line(columns.map((column) => safe(column.text(entry))))),
      "", `${source()}; ${vitptq.permalink()}; ${safe(view.inWords())}`, "",
    ].join("\n");
  }

  function title(view) {
    const region = view.table.closest(".scroll");
    return `${vitptq.title()}: ${region ? region.getAttribute("aria-label") : view.key}.`;
  }

  function references() { return document.getElementById("references"); }

  // The papers behind the rows that are shown, the data sets of the page, and the board at its version.
  function bibtex(view) {
    const { entries, always, board } = JSON.parse(references().textContent);
    const cited = view.shown.flatMap(({ row }) => (row.dataset.cite || "").split(" "));
    const keys = Array.from(new Set([...cited, ...always])).filter((key) => entries[key]).sort();
    const comment = [source(), vitptq.permalink(), view.inWords()].join("; ").replace(/@/g, "(at)");
    return `${[comment, ...keys.map((key) => entries[key]), board].join("\n\n")}\n`;
  }

  function panel(view, into) {
    const text = element("textarea", { readOnly: true, rows: 8, spellcheck: false });
    const copy = element("button", { type: "button", textContent: "Copy" });
    const save = element("button", { type: "button", textContent: "Download" });
    const formats = Object.keys(FORMATS).filter((name) => name !== "BibTeX" || references());
    let chosen = formats[0];
    const buttons = formats.map((name) => {
      const button = element("button", { type: "button", textContent: name });
      button.addEventListener("click", () => { chosen = name; update(); });
      return button;
    });
    const update = () => {
      if (!into.parentElement.open) { return; }
      buttons.forEach((button) => button.setAttribute("aria-pressed", button.textContent === chosen));
      text.value = FORMATS[chosen](view);
      text.setAttribute("aria-label", `${chosen} of the rows shown`);
    };
    copy.addEventListener("click", () => vitptq.copy(text.value, () => text.select()));
    save.addEventListener("click", () => {
      vitptq.save(new Blob([text.value], { type: "text/plain;charset=utf-8" }), `${vitptq.slug(title(view))}.${ENDINGS[chosen]}`);
    });
    into.classList.add("export");
    into.append(element("div", {}, ...buttons), text, element("div", {}, copy, save));
    into.parentElement.addEventListener("toggle", update);
    addEventListener("viewchange", update);
    update();
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const view of vitptq.views) { view.bar.querySelector(".menu:last-of-type").after(vitptq.menu("Export", (into) => panel(view, into))); }
  });
})();
