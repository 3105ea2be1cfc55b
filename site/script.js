// Enhancement only: every page is complete without it. Sorting, copying, and a switch for the theme.
(function () {
  "use strict";
  var root = document.documentElement;

  // Storage may be refused, as it is for pages opened from disk in some browsers.
  function remembered() { try { return localStorage.getItem("vitptq-theme"); } catch (e) { return null; } }
  function remember(theme) { try { localStorage.setItem("vitptq-theme", theme); } catch (e) { /* lasts for this page only */ } }

  // Before first paint, so that a chosen theme never flashes the other one.
  var chosen = remembered();
  if (chosen === "light" || chosen === "dark") { root.dataset.theme = chosen; }

  function say(text) { document.getElementById("announcer").textContent = text; }

  function button(text, action) {
    var element = document.createElement("button");
    element.type = "button";
    element.textContent = text;
    element.addEventListener("click", action);
    return element;
  }

  function addThemeSwitch() {
    function dark() { return (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark"; }
    var element = button("", function () { root.dataset.theme = dark() ? "light" : "dark"; remember(root.dataset.theme); label(); });
    function label() { element.textContent = dark() ? "Light theme" : "Dark theme"; }
    element.className = "theme";
    label();
    document.querySelector("header.site nav").append(element);
  }

  function value(row, column, kind) {
    var cell = row.cells[column];
    var text = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
    if (kind === "text") { return text.toLowerCase(); }
    var number = parseFloat(text.replace("\u2212", "-"));
    return isNaN(number) ? null : number;
  }

  function compare(a, b) { return a < b ? -1 : a > b ? 1 : 0; }

  // Rows stay within their group, group headings stay on top, and a missing value goes last either way.
  function sort(table, column, kind, direction) {
    Array.prototype.forEach.call(table.tBodies, function (body) {
      var rows = Array.prototype.filter.call(body.rows, function (row) { return !row.classList.contains("group"); });
      rows.map(function (row, index) { return { row: row, value: value(row, column, kind), index: index }; })
        .sort(function (a, b) {
          if (a.value === null || b.value === null) { return (a.value === null) - (b.value === null) || a.index - b.index; }
          return direction * compare(a.value, b.value) || a.index - b.index;
        })
        .forEach(function (entry) { body.append(entry.row); });
    });
  }

  function addSorting(table) {
    var heads = table.querySelectorAll("th[data-sort]");
    heads.forEach(function (head) {
      var name = head.textContent.trim();
      var element = button("", function () {
        var kind = head.dataset.sort;
        var now = head.getAttribute("aria-sort");
        var first = kind === "text" ? "ascending" : "descending";
        var next = now === "ascending" ? "descending" : now === "descending" ? "ascending" : first;
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", next);
        sort(table, head.cellIndex, kind, next === "ascending" ? 1 : -1);
        say("Sorted by " + name + ", " + next);
      });
      while (head.firstChild) { element.append(head.firstChild); }
      head.append(element);
    });
  }

  function select(element) {
    var range = document.createRange();
    range.selectNodeContents(element);
    var selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  function addCopying(block) {
    var code = block.querySelector("code");
    block.append(button("Copy", function () {
      // The clipboard may be refused: then the text is selected, one key press away.
      function fallBack() { select(code); say("Selected; press the copy key"); }
      if (!navigator.clipboard) { fallBack(); return; }
      navigator.clipboard.writeText(code.textContent).then(function () { say("Copied"); }, fallBack);
    }));
  }

  document.addEventListener("DOMContentLoaded", function () {
    addThemeSwitch();
    document.querySelectorAll("table").forEach(addSorting);
    document.querySelectorAll("pre[data-copy]").forEach(addCopying);
  });
})();
