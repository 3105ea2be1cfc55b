// Enhancement only: sorting and filtering of tables. The view is in the address's fragment: sort.TABLE=COLUMN, or -COLUMN
// from the highest down, and find.TABLE=WORDS. What is not in the fragment is as the page was written.
(function () {
  "use strict";
  var FILTERED_FROM_ROWS = 5;
  var collator = new Intl.Collator("en", { sensitivity: "base", numeric: true });
  var views = [];

  function say(text) { document.getElementById("announcer").textContent = text; }

  function ownText(head) {
    return Array.from(head.childNodes).filter(function (node) { return !node.classList || !node.classList.contains("sub"); })
      .map(function (node) { return node.textContent; }).join("").trim();
  }

  function columnOf(sort) { return sort.charAt(0) === "-" ? sort.slice(1) : sort; }

  function slug(text) { return text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, ""); }

  function value(row, column, kind) {
    var cell = row.cells[column];
    if (!cell) { return null; }
    var text = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
    if (kind === "text") { return text; }
    var number = parseFloat(text.replace("\u2212", "-"));
    return isNaN(number) ? null : number;
  }

  // Rows stay within their group, and a missing value goes last either way.
  function inOrder(rows, column, kind, direction) {
    var compare = kind === "text" ? collator.compare : function (a, b) { return a - b; };
    return rows.map(function (entry) { return { entry: entry, value: value(entry.row, column, kind) }; })
      .sort(function (a, b) {
        if (a.value === null || b.value === null) { return (a.value === null) - (b.value === null); }
        return direction * compare(a.value, b.value);
      })
      .map(function (found) { return found.entry; });
  }

  function groupsOf(table) {
    return Array.from(table.tBodies, function (body) {
      var heading = body.querySelector("tr.group");
      var rows = Array.from(body.rows).filter(function (row) { return row !== heading; });
      var before = heading ? heading.textContent + " " : "";
      return { body: body, heading: heading, rows: rows.map(function (row) {
        return { row: row, text: (before + row.textContent).toLowerCase() };
      }) };
    });
  }

  function view(table, key) {
    var groups = groupsOf(table);
    var total = groups.reduce(function (sum, group) { return sum + group.rows.length; }, 0);
    var heads = Object.create(null);
    var self = { key: key, sort: "", find: "", show: show };
    var box = null;
    var count = null;

    function show(sort, find) {
      if (!heads[columnOf(sort)]) { sort = ""; }
      if (sort !== self.sort) { self.sort = sort; order(); }
      if (find !== self.find) { self.find = find; filter(); }
      if (box && box.value.trim() !== find) { box.value = find; }
    }

    function order() {
      var descending = self.sort.charAt(0) === "-";
      var sorted = heads[columnOf(self.sort)];
      Object.keys(heads).forEach(function (name) { heads[name].removeAttribute("aria-sort"); });
      if (sorted) { sorted.setAttribute("aria-sort", descending ? "descending" : "ascending"); }
      groups.forEach(function (group) {
        var rows = sorted ? inOrder(group.rows, sorted.cellIndex, sorted.dataset.sort, descending ? -1 : 1) : group.rows;
        var fragment = document.createDocumentFragment();
        rows.forEach(function (entry) { fragment.append(entry.row); });
        group.body.append(fragment);
      });
    }

    // Every word must be in the row or its group's heading; a word after a minus must not be.
    function filter() {
      var words = self.find.toLowerCase().split(/\s+/).filter(function (word) { return word && word !== "-"; });
      var left = 0;
      groups.forEach(function (group) {
        var here = 0;
        group.rows.forEach(function (entry) {
          var stays = words.every(function (word) {
            return word.charAt(0) === "-" ? entry.text.indexOf(word.slice(1)) < 0 : entry.text.indexOf(word) >= 0;
          });
          entry.row.hidden = !stays;
          here += stays;
        });
        if (group.heading) { group.heading.hidden = !here; }
        left += here;
      });
      if (count) { count.textContent = words.length ? left + " of " + total + " rows" : ""; }
    }

    function addSorting(head) {
      var name = ownText(head);
      var column = slug(name);
      heads[column] = head;
      var button = document.createElement("button");
      button.type = "button";
      button.addEventListener("click", function () {
        var steps = head.dataset.sort === "text" ? [column, "-" + column, ""] : ["-" + column, column, ""];
        show(steps[(steps.indexOf(self.sort) + 1) % 3], self.find);
        say(self.sort ? "Sorted by " + name + ", " + head.getAttribute("aria-sort") : "In the page's own order");
        write(false);
      });
      button.append.apply(button, Array.from(head.childNodes));
      head.append(button);
    }

    function addFilter() {
      var region = table.closest(".scroll") || table;
      var label = document.createElement("label");
      var typed = false;
      box = document.createElement("input");
      box.type = "search";
      box.setAttribute("aria-label", "Filter rows: " + (region.getAttribute("aria-label") || key));
      box.title = "Every word must be in the row; -word: must not";
      box.addEventListener("input", function () { show(self.sort, box.value.trim()); write(typed); typed = true; });
      box.addEventListener("blur", function () { typed = false; });
      count = document.createElement("output");
      label.className = "filter";
      label.append("Filter rows ", box, count);
      region.before(label);
    }

    table.querySelectorAll("th[data-sort]").forEach(addSorting);
    if (total >= FILTERED_FROM_ROWS) { addFilter(); }
    return self;
  }

  function decoded(text) { try { return decodeURIComponent(text); } catch (e) { return text; } }

  function parts() { return location.hash.slice(1).split("&").filter(Boolean); }

  function anchor() { return parts().find(function (part) { return part.indexOf("=") < 0; }); }

  function read() {
    var state = {};
    parts().forEach(function (part) {
      var at = part.indexOf("=");
      if (at > 0) { state[part.slice(0, at)] = decoded(part.slice(at + 1)); }
    });
    views.forEach(function (v) { v.show(state["sort." + v.key] || "", (state["find." + v.key] || "").trim()); });
  }

  function fragment() {
    var found = [];
    views.forEach(function (v) {
      if (v.sort) { found.push("sort." + v.key + "=" + v.sort); }
      if (v.find) { found.push("find." + v.key + "=" + encodeURIComponent(v.find)); }
    });
    return found.join("&");
  }

  // `again`: in place of the last entry, or each letter would be a step back.
  function write(again, before) {
    var text = [before, fragment()].filter(Boolean).join("&");
    history[again ? "replaceState" : "pushState"](null, "", text ? "#" + text : location.href.split("#")[0]);
  }

  // A link within the page says nothing about the tables: they stay as they are, and so does their part of the address.
  function follow() {
    if (anchor() && parts().length === 1) {
      if (fragment()) { write(true, anchor()); }
    } else { read(); }
  }

  function addViews() {
    var seen = {};
    document.querySelectorAll("table").forEach(function (table) {
      var section = table.closest("section[aria-labelledby]");
      var name = section ? section.getAttribute("aria-labelledby") : "table";
      seen[name] = (seen[name] || 0) + 1;
      views.push(view(table, seen[name] > 1 ? name + "-" + seen[name] : name));
    });
  }

  function scrollThere() {
    var first = anchor() || (views.find(function (v) { return v.sort || v.find; }) || {}).key;
    var came = performance.getEntriesByType("navigation")[0];
    var element = first && document.getElementById(first);
    if (element && parts().length && (!came || came.type === "navigate")) { element.scrollIntoView(); }
  }

  document.addEventListener("DOMContentLoaded", function () {
    addViews();
    read();
    if (fragment()) { scrollThere(); }
    addEventListener("hashchange", follow);
  });
})();
