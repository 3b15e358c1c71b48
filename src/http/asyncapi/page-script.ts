/** The script for the page's search. The rest of the page works without it. */
export const pageScript = `
"use strict";
const field = document.querySelector("#search");
const resultCount = document.querySelector("#found");
const entries = [...document.querySelectorAll("main article")].map((article) => ({
  article,
  text: article.textContent.toLowerCase(),
  link: document.querySelector('nav a[href="#' + CSS.escape(article.id) + '"]')?.parentElement,
}));
function search() {
  const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let count = 0;
  for (const { article, text, link } of entries) {
    const isHidden = !words.every((word) => text.includes(word));
    article.hidden = isHidden;
    if (link) link.hidden = isHidden;
    if (!isHidden) count += 1;
  }
  for (const section of document.querySelectorAll("main section"))
    section.hidden = !section.querySelector("article:not([hidden])");
  resultCount.textContent = words.length === 0 ? "" : count + (count === 1 ? " entry" : " entries");
}
field.addEventListener("input", search);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== field) {
    event.preventDefault();
    field.focus();
  }
  if (event.key === "Escape" && document.activeElement === field) {
    field.value = "";
    search();
  }
});
// Clears the search if a link leads to a hidden entry.
addEventListener("hashchange", () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target?.closest("[hidden]")) return;
  field.value = "";
  search();
  target.scrollIntoView();
});
const contents = document.querySelector("nav details");
if (matchMedia("(min-width: 60rem)").matches) contents.open = true;
`;
