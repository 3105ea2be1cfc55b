// The view is in the address's fragment, `key=value` joined by "&": short, in any order, empty for the page as it was
// written. A part without "=" is the anchor of a link within the page. Keys that nobody here knows are ignored.
const vitptq = (() => {
  "use strict";
  const parts = [];

  // What has a view: `pairs()` gives its keys with their values, `show(state)` takes the whole state.
  function join(part) { parts.push(part); }

  function decoded(text) { try { return decodeURIComponent(text); } catch (e) { return text; } }

  // Readable where the address allows it.
  function encoded(text) {
    const plain = { "%20": "+", "%2C": ",", "%2F": "/", "%3A": ":" };
    return encodeURIComponent(text).replace(/%(20|2C|2F|3A)/g, (code) => plain[code]);
  }

  function pieces() { return location.hash.slice(1).split("&").filter(Boolean); }

  function anchor() { return pieces().find((piece) => !piece.includes("=")); }

  function read() {
    const state = Object.create(null);
    for (const piece of pieces()) {
      const at = piece.indexOf("=");
      if (at > 0) { state[decoded(piece.slice(0, at))] = decoded(piece.slice(at + 1).replace(/\+/g, " ")); }
    }
    for (const part of parts) { part.show(state); }
    changed();
  }

  // An export holds the whole page's address, so it changes with every view.
  function changed() { dispatchEvent(new Event("viewchange")); }

  function text() {
    return parts.flatMap((part) => part.pairs()).map(([key, value]) => `${encoded(key)}=${encoded(value)}`).join("&");
  }

  // `again`: in place of the last entry, or each letter would be a step back.
  function write(again, before) {
    const all = [before, text()].filter(Boolean).join("&");
    history[again ? "replaceState" : "pushState"](null, "", all ? `#${all}` : location.href.split("#")[0]);
    changed();
  }

  // A link within the page says nothing about the views: they stay as they are, and so does their part of the address.
  function follow() {
    if (anchor() && pieces().length === 1) {
      if (text()) { write(true, anchor()); }
    } else { read(); }
  }

  // The address of this page, for exports; for a page opened from disk its place in the site, not on the disk.
  function permalink() {
    const { root } = document.documentElement.dataset;
    const onDisk = () => location.pathname.split("/").slice(-root.split("../").length).join("/");
    const here = location.protocol === "file:" ? onDisk() : location.href.split("#")[0];
    return text() ? `${here}#${text()}` : here;
  }

  // What the page is of, and from which data: every export says so.
  function title() { return document.title.replace(/ \u00b7 vitptq$/, ""); }

  function source() {
    const { version, data } = document.querySelector("footer.site").dataset;
    return `vitptq ${version}, data sha256 ${data}`;
  }

  function say(words) { document.getElementById("announcer").textContent = words; }

  function element(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function slug(words) { return words.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, ""); }

  // To what a link asked for: its anchor, or the first part of the page that is not as it was written.
  function scrollThere() {
    const first = anchor() || (parts.find((part) => part.pairs().length) || {}).anchor;
    const came = performance.getEntriesByType("navigation")[0];
    const there = first && document.getElementById(first);
    if (there && pieces().length && (!came || came.type === "navigate")) { there.scrollIntoView(); }
  }

  // The event reaches the window after the document, where the views have joined by then.
  addEventListener("DOMContentLoaded", () => {
    read();
    if (text()) { scrollThere(); }
    addEventListener("hashchange", follow);
  });

  return { join, write, permalink, title, source, say, element, slug };
})();
