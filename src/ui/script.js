"use strict";
document.documentElement.classList.add("scripted");

// A click on a button with data-copy copies the text of the element that it names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  const source = button && document.getElementById(button.dataset.copy);
  if (!source) return;
  const before = button.textContent;
  let after = "Copied";
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Browsers give the clipboard to encrypted pages and this machine's own only; a selection is for the reader to copy.
    getSelection().selectAllChildren(source);
    after = "Selected";
  }
  button.textContent = after;
  setTimeout(() => { button.textContent = before; }, 1500);
});

// A form with data-live shows what it finds as one types: it fetches the page that the form would lead to, and takes
// over what is in the elements that data-live names. The elements stay, so that a screen reader hears of the change.
const form = document.querySelector("form[data-live]");
const input = form && form.querySelector("input[type=search]");
let asked = 0;
let timer;
async function look() {
  const turn = ++asked;
  const address = new URL(form.action);
  if (input.value.trim()) address.searchParams.set(input.name, input.value.trim());
  try {
    const response = await fetch(address, { headers: { accept: "text/html" } });
    if (!response.ok || turn !== asked) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (turn !== asked) return;
    for (const name of form.dataset.live.split(" ")) {
      document.getElementById(name).replaceChildren(...page.getElementById(name).childNodes);
    }
    history.replaceState(null, "", address);
  } catch {
    // The button of the form is still there.
  }
}
if (input) {
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 120);
  });
  document.addEventListener("keydown", (event) => {
    const writes = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.target.isContentEditable;
    if (event.key !== "/" || writes || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
}
