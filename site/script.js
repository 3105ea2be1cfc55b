// Enhancement only: every page is complete without it. Copying, and a switch for the theme.
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
    document.querySelectorAll("pre[data-copy]").forEach(addCopying);
  });
})();
