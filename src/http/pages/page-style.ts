/** The style sheet of all pages, for light and dark mode and for small and wide screens. */
export const pageStyle = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: light-dark(#0b57d0, #8ab4f8); }
* { box-sizing: border-box; }
html { scroll-padding-top: 4.5rem; }
body { margin: 0; font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; z-index: 2; padding: .5rem; background: Canvas; }
header { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  padding: .6rem 1rem; background: Canvas; border-bottom: 1px solid var(--line); }
header h1 { font-size: 1.1rem; margin: 0; }
header .brand { font-weight: 600; }
header label { flex: 1 1 12rem; max-width: 30rem; }
input { width: 100%; font: inherit; padding: .35rem .6rem; border: 1px solid var(--line); border-radius: .4rem; }
.hidden, [hidden] { display: none !important; }
.label { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.layout { display: grid; grid-template-columns: minmax(0, 1fr); max-width: 84rem; margin: 0 auto; }
nav { padding: .5rem 1rem; }
nav ul { list-style: none; margin: 0 0 .5rem; padding: 0 0 0 .75rem; }
nav summary { padding: .5rem 0; cursor: pointer; }
main { padding: 0 1rem 4rem; min-width: 0; }
h2 { margin: 2.5rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.75rem 0 .25rem; font: 600 1.05rem ui-monospace, monospace; }
h4 { margin: 1rem 0 .25rem; }
article h3 a { color: inherit; text-decoration: none; }
article h3 a:hover::after, article h3 a:focus::after { content: " #"; opacity: .6; }
:target > h3 { background: light-dark(#ffe9a8, #5a4a00); }
code, pre { font: .9em/1.5 ui-monospace, monospace; }
pre { padding: .75rem; background: var(--soft); border-radius: .4rem; overflow: auto; max-height: 26rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { overflow-wrap: normal; }
tbody th { font-weight: normal; }
td { min-width: 7rem; }
.note { opacity: .7; font-size: .85em; }
.text { max-width: 50rem; margin: 0 auto; }
.text h1 { line-height: 1.25; margin: 1.5rem 0 1rem; }
.text h3 { font: 600 1.1rem system-ui, sans-serif; }
.text table { display: block; overflow-x: auto; }
.text td { min-width: 4rem; }
.text img { max-width: 100%; }
.text form { display: flex; gap: .5rem; max-width: 30rem; }
.text dt { font-weight: 600; margin-top: 1rem; }
.text dd { margin: 0; }
nav ul ul { margin: 0; }
button { flex: none; font: inherit; padding: .35rem .8rem; }
.anchor { text-decoration: none; opacity: .5; font-weight: normal; }
:target { scroll-margin-top: 4.5rem; }
blockquote { margin-inline: 0; padding-inline-start: 1rem; border-inline-start: 3px solid var(--line); }
@media (min-width: 60rem) {
  nav details::details-content { content-visibility: visible; block-size: auto; }
  @supports selector(::details-content) { nav summary { list-style: none; pointer-events: none; } }
  .layout:has(> nav) { grid-template-columns: 17rem minmax(0, 1fr); }
  nav { position: sticky; top: 3.6rem; height: calc(100vh - 3.6rem); overflow: auto; }
}
@media print { header label, nav { display: none; } }
`;
