// What pages do beside what htmx does: say whether they are live, copy commands, and know the key /.
"use strict";
(() => {
  const wire = document.getElementById("wire");
  const tell = (text, isLive) => {
    document.getElementById("wire-word").textContent = text;
    wire.classList.toggle("on", isLive);
    wire.classList.toggle("lost", !isLive);
  };
  const SOON = 1000, LATE = 30000;  // milliseconds
  let source = null, retry = 0, pause = SOON, hasMissed = false;
  const changed = () => htmx.trigger(document.body, "changed");
  const leave = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
    hasMissed = true;
  };
  const listen = () => {
    clearTimeout(retry);
    source?.close();
    source = new EventSource("/live");
    source.addEventListener("hello", () => {
      tell("live", true);
      pause = SOON;
      if (hasMissed) changed();  // what happened meanwhile was told to nobody
      hasMissed = false;
    });
    source.addEventListener("changed", changed);
    source.onerror = () => {
      leave();
      tell("connection lost", false);
      retry = setTimeout(listen, pause);
      pause = Math.min(2 * pause, LATE);
    };
  };
  if (wire) {
    // A page that nobody sees needs no connection, of which browsers allow few.
    document.addEventListener("visibilitychange", () => (document.hidden ? leave() : listen()));
    window.addEventListener("online", listen);
    window.addEventListener("pagehide", leave);
    window.addEventListener("pageshow", (event) => event.persisted && listen());
    if (!document.hidden) listen();
    hasMissed = false;
  }

  const showCopy = () => {
    if (!navigator.clipboard) return;
    for (const button of document.querySelectorAll("button.copy[hidden]")) button.hidden = false;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button.copy");
    if (!button) return;
    const code = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl-C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  document.addEventListener("htmx:after:swap", showCopy);
  showCopy();

  document.addEventListener("keydown", (event) => {
    const filter = document.getElementById("q");
    const isTyping = event.target.closest?.("input, textarea, select");
    if (event.key === "/" && filter && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      filter.select();
    }
  });
})();
