// Enhancement only: sorting, searching and filtering of tables, and a choice of their columns. Parts of the fragment:
// sort.TABLE=COLUMN, or -COLUMN from the highest down; find.TABLE=WORDS; hide.TABLE=COLUMN,COLUMN;
// keep.TABLE.COLUMN=VALUE~VALUE for text and keep.TABLE.COLUMN=LOWEST..HIGHEST for numbers.
(() => {
  "use strict";
  const AT_ONCE = 40;
  const AT_A_TIME = 200;
  const NOT_KNOWN = "\u2013";
  const ASIDE = ".sub, .tie, sup, details";
  const collator = new Intl.Collator("en", { sensitivity: "base", numeric: true });

  // A cell's own words: without second lines, letters of groups, marks and what is folded. Each badge is a line.
  function ownText(cell) {
    if (!cell.firstElementChild) { return cell.textContent.trim(); }
    const badges = cell.querySelectorAll(".badge");
    if (badges.length) { return Array.from(badges, (badge) => badge.textContent).join("\n"); }
    const nodes = Array.from(cell.childNodes).filter((node) => node.nodeType !== 1 || !node.matches(ASIDE));
    return nodes.map((node) => node.textContent).join("").replace(/\s+/g, " ").trim();
  }

  function numberOf(text) {
    const found = parseFloat(text.replace("\u2212", "-"));
    return isNaN(found) ? null : found;
  }

  // The cell that covers each column of a row; one that spans several stands for each of them.
  function covering(row) { return Array.from(row.cells).flatMap((cell) => Array(cell.colSpan).fill(cell)); }

  // The heads of single columns, by position: in a head of two rows those below a common one.
  function leaves(table) {
    const found = [];
    Array.from(table.tHead ? table.tHead.rows : []).forEach((row, level) => {
      let at = 0;
      for (const head of row.cells) {
        while (found[at] && found[at].until > level) { at += 1; }
        for (let i = 0; i < head.colSpan; i += 1) {
          found[at + i] = { head, until: level + head.rowSpan, above: found[at + i], spans: head.colSpan };
        }
        at += head.colSpan;
      }
    });
    return found;
  }

  function columnsOf(table) {
    const taken = {};
    return leaves(table).map(({ head, spans, above }, at) => {
      const own = ownText(head);
      const name = above && taken[vitptq.slug(own)] ? `${ownText(above.head)}: ${own}` : own;
      const kind = head.dataset.sort || (head.classList.contains("n") ? "number" : "text");
      const key = vitptq.slug(name);
      const usable = name && spans === 1 && !taken[key];
      taken[key] = true;
      return { at, name, key: usable ? key : "", kind, head, above: above && above.head, values: null };
    });
  }

  function model(table) {
    const columns = columnsOf(table);
    const groups = Array.from(table.tBodies, (body) => {
      const heading = body.querySelector("tr.group");
      const name = heading ? heading.dataset.name || heading.textContent.trim() : "";
      return { body, heading, name, entries: Array.from(body.rows).filter((row) => row !== heading).map((row) => ({ row, name, heading: heading ? heading.textContent : "" })) };
    });
    const entries = groups.flatMap((group) => group.entries);
    entries.forEach((entry, index) => { entry.index = index; });

    function cells(entry) {
      entry.cells = entry.cells || covering(entry.row);
      return entry.cells;
    }

    function cell(entry, column) {
      const { row } = entry;
      return (!entry.cells && row.cells.length === columns.length ? row.cells : cells(entry))[column.at];
    }

    function shownText(entry, column) {
      const there = cell(entry, column);
      return there ? ownText(there) : "";
    }

    // Everything is read from the page once: reading it again would cost more than sorting.
    function values(column) {
      column.values = column.values || entries.map((entry) => {
        const there = cell(entry, column);
        const text = !there ? "" : there.dataset.value !== undefined ? there.dataset.value : ownText(there);
        if (column.kind === "number") { return numberOf(text); }
        return text && text !== NOT_KNOWN ? text : null;
      });
      return column.values;
    }

    // Numbers stand for themselves, text for its place among all texts of the column.
    function ranks(column) {
      const all = values(column);
      if (column.kind === "number") { return all; }
      if (!column.ranks) {
        const sorted = Array.from(new Set(all)).filter((text) => text !== null).sort(collator.compare);
        const places = new Map();
        sorted.forEach((text, i) => places.set(text, i && !collator.compare(text, sorted[i - 1]) ? places.get(sorted[i - 1]) : i));
        column.ranks = all.map((text) => (text === null ? null : places.get(text)));
      }
      return column.ranks;
    }

    // A missing value goes last either way.
    function sorted(group, column, direction) {
      const all = ranks(column);
      return group.entries.slice().sort((a, b) => {
        const first = all[a.index];
        const second = all[b.index];
        if (first === null || second === null) { return (first === null) - (second === null); }
        return direction * (first - second);
      });
    }

    // The cells of every line of the table by column, as they were before any was hidden.
    let all = null;
    function lines() {
      all = all || [
        columns.map(({ head }) => head),
        columns.map(({ head, above }) => above || head),
        ...groups.filter(({ heading }) => heading).map(({ heading }) => covering(heading)),
        ...entries.map(cells),
      ];
      return all;
    }

    function words(entry) {
      entry.words = entry.words || `${entry.heading} ${entry.row.textContent}`.toLowerCase();
      return entry.words;
    }

    return { columns, groups, entries, cell, shownText, values, sorted, lines, words };
  }

  // Puts a table's rows into another order, and hides some. Laying out a row costs the browser far more than anything
  // here, so what a window shows is moved at once, and the rest little by little: until then it stays where it was.
  function arranger(data) {
    let steps = null;
    let timer = 0;

    function arrange(lists, stays) {
      clearTimeout(timer);
      for (const entry of data.entries) {
        entry.stays = stays(entry);
        if (!entry.stays) { entry.row.hidden = true; }
      }
      for (const { heading, entries } of data.groups) {
        if (heading) { heading.hidden = !entries.some((entry) => entry.stays); }
      }
      steps = moves(lists);
      advance(AT_ONCE);
    }

    function* moves(lists) {
      for (const [i, entries] of lists.entries()) {
        const { body, heading } = data.groups[i];
        let before = heading;
        for (const { row, stays } of entries) {
          const next = before ? before.nextElementSibling : body.firstElementChild;
          const moved = next !== row;
          if (moved) { body.insertBefore(row, next); }
          before = row;
          if (stays && (moved || row.hidden)) {
            row.hidden = false;
            yield;
          }
        }
      }
    }

    function advance(rows) {
      for (let i = 0; i < rows; i += 1) { if (steps.next().done) { return; } }
      timer = setTimeout(() => advance(AT_A_TIME));
    }

    addEventListener("beforeprint", () => { if (steps) { advance(Infinity); } });
    return arrange;
  }

  function view(table, key) {
    const data = model(table);
    const place = arranger(data);
    const named = new Map(data.columns.filter((column) => column.key).map((column) => [column.key, column]));
    const self = { key, anchor: key, table, data, state: blank(), shown: data.entries, pairs, show, change, columns, inWords };
    self.listeners = [];

    function blank() { return { sort: "", find: "", hide: [], keep: {} }; }

    function columns() { return data.columns.filter((column) => column.key && !self.state.hide.includes(column.key)); }

    function column(sort) { return named.get(sort.replace(/^-/, "")); }

    function pairs() {
      const { sort, find, hide, keep } = self.state;
      const found = [["sort", sort], ["find", find], ["hide", hide.join(",")]].filter(([, value]) => value).map(([what, value]) => [`${what}.${key}`, value]);
      return [...found, ...Object.keys(keep).sort().map((name) => [`keep.${key}.${name}`, joined(keep[name])])];
    }

    // The first column names the row and stays.
    function show(all) {
      const state = blank();
      state.sort = column(all[`sort.${key}`] || "") ? all[`sort.${key}`] : "";
      state.find = (all[`find.${key}`] || "").trim();
      state.hide = (all[`hide.${key}`] || "").split(",").filter((name) => named.has(name) && named.get(name).at > 0);
      for (const name of ["section", ...named.keys()]) {
        const kept = all[`keep.${key}.${name}`];
        const wanted = kept ? split(kept, named.get(name)) : [];
        if (wanted.some((value) => value !== null)) { state.keep[name] = wanted; }
      }
      apply(state);
    }

    function change(changes) { apply({ ...self.state, ...changes }); }

    function apply(state) {
      const before = self.state;
      self.state = state;
      const changed = (name) => JSON.stringify(before[name]) !== JSON.stringify(state[name]);
      if (changed("hide")) { hideColumns(); }
      if (changed("sort")) { mark(); }
      if (["sort", "find", "keep"].some(changed)) { arrange(); }
      for (const listener of self.listeners) { listener(); }
    }

    function mark() {
      data.columns.forEach(({ head }) => head.removeAttribute("aria-sort"));
      const by = column(self.state.sort);
      if (by) { by.head.setAttribute("aria-sort", self.state.sort.startsWith("-") ? "descending" : "ascending"); }
    }

    function arrange() {
      const by = column(self.state.sort);
      const stays = test();
      const direction = self.state.sort.startsWith("-") ? -1 : 1;
      const lists = data.groups.map((group) => (by ? data.sorted(group, by, direction) : group.entries));
      place(lists, stays);
      self.shown = lists.flat().filter((entry) => entry.stays);
    }

    // Every word must be in the row or its group's heading; a word after a minus must not be.
    function test() {
      const words = self.state.find.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
      const has = (entry, word) => (word.startsWith("-") ? !data.words(entry).includes(word.slice(1)) : data.words(entry).includes(word));
      const kept = Object.entries(self.state.keep).map(([name, wanted]) => keeps(named.get(name), wanted));
      return (entry) => words.every((word) => has(entry, word)) && kept.every((keep) => keep(entry));
    }

    function keeps(by, wanted) {
      if (!by) { return (entry) => wanted.includes(entry.name); }
      const values = data.values(by);
      if (by.kind === "text") { return ({ index }) => (values[index] || NOT_KNOWN).split("\n").some((value) => wanted.includes(value)); }
      const [low, high] = wanted;
      return ({ index }) => values[index] !== null && (low === null || values[index] >= low) && (high === null || values[index] <= high);
    }

    // A cell that spans several columns gets narrower by those that go.
    function hideColumns() {
      const gone = new Set(self.state.hide.map((name) => named.get(name).at));
      for (const cells of data.lines()) {
        for (const cell of new Set(cells)) {
          const left = cells.filter((other, at) => other === cell && !gone.has(at)).length;
          cell.hidden = left === 0;
          if (left > 0 && cell.colSpan !== left) { cell.colSpan = left; }
        }
      }
    }

    function inWords() {
      const { sort, find, keep } = self.state;
      const said = Object.entries(keep).map(([name, wanted]) => {
        const by = named.get(name);
        if (!by || by.kind === "text") { return `${by ? by.name : "section"}: ${wanted.join(" or ")}`; }
        return [by.name, ...["from", "to"].flatMap((word, i) => (wanted[i] === null ? [] : [word, wanted[i]]))].join(" ");
      });
      if (find) { said.unshift(`search: ${find}`); }
      if (sort) { said.push(`sorted by ${column(sort).name}, ${sort.startsWith("-") ? "descending" : "ascending"}`); }
      return [`${self.shown.length} of ${data.entries.length} rows`, ...said].join("; ");
    }

    return self;
  }

  function joined(wanted) {
    if (typeof wanted[0] === "string") { return wanted.map((value) => value.replace(/~/g, "%7E")).join("~"); }
    return wanted.map((end) => (end === null ? "" : end)).join("..");
  }

  function split(text, column) {
    if (column && column.kind === "number") { return `${text}..`.split("..", 2).map(numberOf); }
    return text.split("~").map((value) => value.replace(/%7E/g, "~"));
  }

  function addSorting(shown) {
    for (const column of shown.data.columns.filter(({ key }) => key)) {
      const { head, key, kind, name } = column;
      const linked = head.querySelector("a");
      const button = vitptq.element("button", { type: "button" }, ...(linked ? [] : head.childNodes));
      if (linked) { button.setAttribute("aria-label", `Sort by ${name}`); }
      button.addEventListener("click", () => {
        const steps = kind === "text" ? [key, `-${key}`, ""] : [`-${key}`, key, ""];
        shown.change({ sort: steps[(steps.indexOf(shown.state.sort) + 1) % 3] });
        vitptq.say(shown.state.sort ? `Sorted by ${name}, ${head.getAttribute("aria-sort")}` : "In the page's own order");
        vitptq.write(false);
      });
      head.append(button);
    }
  }

  // A table's key is that of its section, or its own where the page gives it one.
  vitptq.views = [];
  document.addEventListener("DOMContentLoaded", () => {
    const seen = {};
    for (const table of document.querySelectorAll("table:not([data-plain])")) {
      const section = table.closest("section[aria-labelledby]");
      const name = table.dataset.view || (section ? section.getAttribute("aria-labelledby") : "table");
      seen[name] = (seen[name] || 0) + 1;
      const shown = view(table, seen[name] > 1 ? `${name}-${seen[name]}` : name);
      if (shown.data.entries.length > 1) {
        addSorting(shown);
        vitptq.join(shown);
        vitptq.views.push(shown);
      }
    }
  });
})();
