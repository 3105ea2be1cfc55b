// Enhancement only: every page is complete without it. Copying, saving, and a switch for the theme.
(function () {
  "use strict";
  var root = document.documentElement;

  // Storage may be refused, as it is for pages opened from disk in some browsers.
  function remembered() { try { return localStorage.getItem("vitptq-theme"); } catch (e) { return null; } }
  function remember(theme) { try { localStorage.setItem("vitptq-theme", theme); } catch (e) { /* lasts for this page only */ } }

  // Before first paint, so that a chosen theme never flashes the other one.
  var chosen = remembered();
  if (chosen === "light" || chosen === "dark") { root.dataset.theme = chosen; }

  function button(text, action) {
    var element = vitptq.element("button", { type: "button", textContent: text });
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

  // The clipboard may be refused: then the text is selected, one key press away.
  vitptq.copy = function (text, select) {
    function fallBack() { select(); vitptq.say("Selected; press the copy key"); }
    if (!navigator.clipboard) { fallBack(); return; }
    navigator.clipboard.writeText(text).then(function () { vitptq.say("Copied"); }, fallBack);
  };

  vitptq.save = function (blob, name) {
    var link = vitptq.element("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 60000);
    vitptq.say("Saved as " + name);
  };

  function addCopying(block) {
    var code = block.querySelector("code");
    block.append(button("Copy", function () { vitptq.copy(code.textContent, function () { select(code); }); }));
  }

  document.addEventListener("DOMContentLoaded", function () {
    addThemeSwitch();
    document.querySelectorAll("pre[data-copy]").forEach(addCopying);
  });
})();
