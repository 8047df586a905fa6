// What pages do beside what htmx does: say whether they are live, copy commands, and know the key /.
"use strict";
(() => {
  const wire = document.getElementById("wire");
  const word = document.getElementById("wire-word");
  const tell = (text, isLive) => {
    if (!wire) return;
    word.textContent = text;
    wire.classList.toggle("on", isLive);
  };
  document.addEventListener("htmx:sse:after:connection", (event) => {
    const isLive = event.detail.connection.status === 200;
    const before = wire?.classList.contains("lost");
    tell(isLive ? "live" : "not live", isLive);
    wire?.classList.toggle("lost", !isLive);
    // What happened meanwhile was told to nobody.
    if (isLive && before) htmx.trigger(document.body, "changed");
  });
  for (const name of ["htmx:sse:error", "htmx:sse:close"]) {
    document.addEventListener(name, () => {
      tell("connection lost", false);
      wire?.classList.add("lost");
    });
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
