// The page's style: light and dark, and one column on a phone.

export const PAGE_STYLE = `
:root {
  --ground: #f4f6f8; --card: #fff; --line: #dde3e9; --text: #17212b; --faint: #5a6875; --accent: #0b6e99;
  --good: #1a7f4b; --good-ground: #e0f4e8; --warn: #8a5a00; --warn-ground: #fdf0d3; --bad: #b3261e; --bad-ground: #fce4e2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #10161c; --card: #18212a; --line: #2a3641; --text: #e4ebf1; --faint: #98a7b5; --accent: #58b9e3;
    --good: #6fd6a0; --good-ground: #12352a; --warn: #f0c063; --warn-ground: #3a2e12; --bad: #ff9a92; --bad-ground: #44201d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 76rem; padding: 1rem 1.25rem 2rem; background: var(--ground); color: var(--text);
  font: 0.94rem/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif;
}
header { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 0.25rem 1rem; }
.brand { display: flex; align-items: center; gap: 0.7rem; }
.brand svg { fill: none; stroke: var(--accent); stroke-width: 2; flex: none; }
h1 { font-size: 1.3rem; margin: 0.3rem 0; overflow-wrap: anywhere; }
h1 span { font-weight: 400; color: var(--faint); }
h2 { font-size: 0.8rem; margin: 0 0 0.5rem; color: var(--faint); letter-spacing: 0.05em; text-transform: uppercase; }
p { margin: 0.25rem 0; }
.state { margin: 0; }
.faint { color: var(--faint); font-size: 0.85rem; }
h2 .faint, h2 .pill { text-transform: none; letter-spacing: 0; }
.pill { display: inline-block; padding: 0.05rem 0.65rem; border-radius: 1rem; font-size: 0.85rem; font-weight: 600; background: var(--line); color: var(--text); }
.pill.good { background: var(--good-ground); color: var(--good); }
.pill.warn { background: var(--warn-ground); color: var(--warn); }
.pill.bad { background: var(--bad-ground); color: var(--bad); }
.problems { list-style: none; margin: 0.75rem 0 0; padding: 0; display: grid; gap: 0.5rem; }
.problems li, .problem { padding: 0.6rem 0.9rem; border-left: 4px solid var(--warn); border-radius: 0.4rem; background: var(--warn-ground); overflow-wrap: anywhere; }
.problems.bad li { border-color: var(--bad); background: var(--bad-ground); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15.5rem, 1fr)); gap: 1rem; margin: 1rem 0; }
article, main > section:not(.cards) { background: var(--card); border: 1px solid var(--line); border-radius: 0.7rem; padding: 1rem 1.1rem; min-width: 0; }
main > section:not(.cards) { margin: 1rem 0; }
.figure { margin: 0 0 0.5rem; color: var(--faint); }
.figure b { font-size: 1.9rem; line-height: 1.2; font-weight: 650; color: var(--text); font-variant-numeric: tabular-nums; margin-right: 0.3rem; }
dl { margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 1rem; padding: 0.2rem 0; border-top: 1px solid var(--line); }
dt { color: var(--faint); }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.figure .pill { font-size: 1.05rem; margin: 0.3rem 0; }
.bar { height: 0.5rem; border-radius: 0.25rem; background: var(--line); overflow: hidden; margin-bottom: 0.6rem; }
.bar span { display: block; height: 100%; width: 0; background: var(--accent); }
.bar.full span { background: var(--bad); }
#spark { width: 100%; height: 2.75rem; display: block; margin-bottom: 0.4rem; }
#spark polyline { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
#spark #spark-out { stroke: var(--good); stroke-dasharray: 4 3; }
.key { display: inline-block; width: 0.9rem; border-top: 2px dashed var(--good); margin-right: 0.4rem; vertical-align: middle; }
.lane { padding: 0.5rem 0; border-top: 1px solid var(--line); }
.lane h3 { font-size: 0.9rem; margin: 0 0 0.2rem; overflow-wrap: anywhere; }
.equation { display: flex; flex-wrap: wrap; gap: 0.1rem 0.45rem; font-variant-numeric: tabular-nums; }
.equation span { color: var(--faint); }
.equation b { font-weight: 600; color: var(--text); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-weight: 500; font-size: 0.85rem; color: var(--faint); }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
td.wide { white-space: normal; min-width: 12rem; overflow-wrap: anywhere; }
td.value { max-width: 22rem; overflow: hidden; text-overflow: ellipsis; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
main.stale { opacity: 0.55; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
footer { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0.3rem 1rem; }
footer nav { display: flex; flex-wrap: wrap; gap: 0.9rem; }
@media (max-width: 34rem) {
  body { padding: 0.75rem; }
  .cards { gap: 0.75rem; }
  td.wide { min-width: 8rem; }
  td.value { max-width: 8rem; }
}
`
