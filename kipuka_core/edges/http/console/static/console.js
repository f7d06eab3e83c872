"use strict";
// Conveniences; every page works without them.
for (const code of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy " + code.dataset.copy);
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    said.textContent = " copied";
  });
  code.after(" ", button, said);
}
// What is wrong is read first.
const problem = document.querySelector("[data-focus]");
if (problem) problem.focus();
