"use strict";
// Everything that a model wrote goes through textContent: it is never read as markup.
const all = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const HEIGHT = 52, SPARE = 8;
let shown = [], here = -1, tokens = [], at = -1;

function element(name, words, kind) {
  const made = document.createElement(name);
  if (words !== undefined && words !== null) made.textContent = words;
  if (kind) made.className = kind;
  return made;
}

const sourceOf = (episode) => [episode.run, episode.who].filter(Boolean).join(" · ");
const nodeOf = (turn) => turn.path.join("/");
for (const episode of all) {
  episode.source = sourceOf(episode);
  episode.length = episode.turns.reduce((sum, turn) => sum + (turn.ids || turn.text.split(/\s+/)).length, 0);
  episode.words = [episode.id, episode.prompt, ...episode.turns.flatMap((t) => [nodeOf(t), t.text, t.reason || ""])]
    .join("\n").toLowerCase();
}

function options(select, first, values) {
  select.append(Object.assign(element("option", first), { value: "" }));
  for (const value of [...new Set(values)]) select.append(Object.assign(element("option", value), { value }));
}
options($("source"), "all", all.map((episode) => episode.source));
options($("beside"), "nothing", all.map((episode) => episode.source));
$("node").firstChild.remove();
options($("node"), "any", all.flatMap((episode) => episode.turns.map(nodeOf)));

function within(value, low, high) {
  if (low === "" && high === "") return true;
  return value !== null && (low === "" || value >= +low) && (high === "" || value <= +high);
}

function filter() {
  const wanted = (id) => $(id).value, text = wanted("search").toLowerCase(), problem = wanted("problem").toLowerCase();
  const before = shown[here];
  document.body.classList.remove("reading");  // on a phone the list comes back
  shown = all.filter((episode) =>
    (!wanted("source") || episode.source === wanted("source")) &&
    (!wanted("outcome") || episode.outcome === wanted("outcome")) &&
    (!wanted("node") || episode.turns.some((turn) => nodeOf(turn) === wanted("node"))) &&
    (!wanted("turns") || episode.turns.length === +wanted("turns")) &&
    within(episode.reward, wanted("reward0"), wanted("reward1")) &&
    within(episode.length, wanted("length0"), wanted("length1")) &&
    (!problem || (episode.id + "\n" + episode.prompt).toLowerCase().includes(problem)) &&
    (!text || episode.words.includes(text)));
  $("count").textContent = `${shown.length} of ${all.length} episodes`;
  $("rows").style.height = `${shown.length * HEIGHT}px`;
  choose(Math.max(0, shown.indexOf(before)), false);
}

// Only the rows that can be seen are in the page.
function drawRows() {
  const scroll = $("scroll"), first = Math.max(0, Math.floor(scroll.scrollTop / HEIGHT) - SPARE);
  const last = Math.min(shown.length, Math.ceil((scroll.scrollTop + scroll.clientHeight) / HEIGHT) + SPARE);
  $("rows").replaceChildren(...shown.slice(first, last).map((episode, index) => rowOf(episode, first + index)));
}

function rowOf(episode, index) {
  const item = element("div", null, "item" + (index === here ? " here" : ""));
  item.style.top = `${index * HEIGHT}px`;
  item.append(element("div", episode.prompt));
  const note = element("div", null, "note");
  note.append(element("span", episode.outcome, episode.outcome));
  const step = episode.step === null ? "" : ` · step ${episode.step}`;
  const reward = episode.reward === null ? "" : ` · reward ${+episode.reward.toFixed(3)}`;
  note.append(` · ${episode.source}${step}${reward} · ${episode.length} tokens`);
  item.append(note);
  item.onclick = () => choose(index, true);
  return item;
}

function choose(index, reading) {
  here = Math.min(Math.max(0, index), shown.length - 1);
  const scroll = $("scroll");
  if (here >= 0) {
    if (here * HEIGHT < scroll.scrollTop) scroll.scrollTop = here * HEIGHT;
    const end = (here + 1) * HEIGHT - scroll.clientHeight;
    if (scroll.clientHeight && end > scroll.scrollTop) scroll.scrollTop = end;
  }
  if (reading) document.body.classList.add("reading");
  drawRows();
  drawDetail();
}

function drawDetail() {
  const detail = $("detail"), episode = shown[here];
  tokens = []; at = -1; $("token").textContent = "";
  detail.replaceChildren();
  const back = element("button", "← list");
  back.id = "back";
  back.onclick = () => document.body.classList.remove("reading");
  detail.append(back);
  if (!episode) { detail.append(element("p", "No episode is like this.", "note")); return; }
  detail.append(legend());
  const columns = element("div", null, "columns"), source = $("beside").value;
  columns.append(episodeOf(episode));
  if (source) {
    const others = all.filter((one) => one.source === source && one.id === episode.id && one !== episode);
    columns.append(others.length ? episodeOf(others[0]) : element("p", `${source} has no other episode of this problem.`, "note"));
  }
  detail.append(columns);
  detail.scrollTop = 0;
}

function legend() {
  const colour = $("colour").value, line = element("div", null, "legend");
  if (!colour) return line;
  const bar = element("i");
  const [low, high] = colour === "lp" ? ["−5 nats or less: unlikely", "0: certain"] : ["−2 or less: to be rarer", "+2 or more: to be likelier"];
  bar.style.background = colour === "lp" ? "linear-gradient(90deg, rgba(219,109,40,.75), transparent)"
    : "linear-gradient(90deg, rgba(229,83,75,.75), transparent, rgba(45,164,78,.75))";
  line.append(colour === "lp" ? "log-probability" : "advantage", element("span", low), bar, element("span", high));
  return line;
}

function episodeOf(episode) {
  const made = element("article");
  made.append(element("h3", episode.prompt));
  const step = episode.step === null ? "" : `, step ${episode.step}`;
  const head = element("p", `${episode.source}${step} · problem ${episode.id} · `, "note");
  head.append(element("span", episode.kind, episode.outcome), episode.stop ? ` · ended: ${episode.stop}` : "");
  const path = element("div", null, "path");
  episode.turns.forEach((turn, index) => path.append(...(index ? ["→"] : []), element("span", nodeOf(turn))));
  made.append(head, path, ...episode.turns.map(turnOf));
  return made;
}

function turnOf(turn) {
  const made = element("section", null, `turn ${turn.verdict || "plain"}`), head = element("h4");
  head.append(element("span", nodeOf(turn) + (turn.role === nodeOf(turn) ? "" : `, ${turn.role}`)));
  const paid = turn.reward === undefined || turn.reward === null ? "" : ` reward ${+turn.reward.toFixed(4)}`;
  head.append(element("b", (turn.verdict || "") + paid + (turn.learns === false ? " (does not learn)" : "")));
  made.append(head);
  if (turn.prompt) made.append(element("pre", turn.prompt, "asked"));
  const text = element("pre");
  if (turn.pieces) turn.pieces.forEach((piece, index) => text.append(tokenOf(turn, piece, index)));
  else text.textContent = turn.text;
  made.append(text);
  if (turn.reason) made.append(element("p", turn.reason, "reason"));
  return made;
}

function tokenOf(turn, piece, index) {
  const made = element("span", piece, "t"), lp = turn.lp && turn.lp[index], adv = turn.adv && turn.adv[index];
  const colour = $("colour").value, number = tokens.length, known = (value) => value !== null && value !== undefined;
  if (colour === "lp" && known(lp)) made.style.background = `rgba(219,109,40,${(0.75 * Math.min(1, -lp / 5)).toFixed(3)})`;
  if (colour === "adv" && known(adv)) {
    made.style.background = `rgba(${adv < 0 ? "229,83,75" : "45,164,78"},${(0.75 * Math.min(1, Math.abs(adv) / 2)).toFixed(3)})`;
  }
  const told = [JSON.stringify(piece), `id ${turn.ids[index]}`];
  if (known(lp)) told.push(`log-probability ${lp} (${(100 * Math.exp(lp)).toPrecision(3)} %)`);
  if (known(adv)) told.push(`advantage ${adv}`);
  tokens.push([made, told.join(" · ")]);
  made.onclick = made.onmouseenter = () => point(number);
  return made;
}

function point(number) {
  if (!tokens.length) return;
  if (tokens[at]) tokens[at][0].classList.remove("at");
  at = Math.min(Math.max(0, number), tokens.length - 1);
  tokens[at][0].classList.add("at");
  $("token").textContent = tokens[at][1];
}

function dark() {
  const now = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
}

function turnSelect(id) {
  const select = $(id);
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  drawDetail();
}

const KEYS = {
  j: () => choose(here + 1, false), ArrowDown: () => choose(here + 1, false),
  k: () => choose(here - 1, false), ArrowUp: () => choose(here - 1, false),
  l: () => point(at + 1), ArrowRight: () => point(at + 1), h: () => point(at - 1), ArrowLeft: () => point(at - 1),
  Home: () => choose(0, false), End: () => choose(shown.length - 1, false),
  Enter: () => choose(here, true),
  "/": () => $("search").focus(), "?": () => $("keys").showModal(),
  c: () => turnSelect("colour"), b: () => turnSelect("beside"), d: dark,
  Escape: () => document.body.classList.remove("reading"),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const typing = event.target.matches("input, select");
  if (typing && event.key === "Escape") { event.target.blur(); return; }
  if (typing || (event.key === "Enter" && event.target.matches("button, summary")) || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
for (const id of ["search", "source", "problem", "outcome", "node", "turns", "reward0", "reward1", "length0", "length1"]) {
  $(id).addEventListener("input", filter);
}
for (const id of ["beside", "colour"]) $(id).addEventListener("input", drawDetail);
$("dark").onclick = dark;
$("help").onclick = KEYS["?"];
$("scroll").addEventListener("scroll", drawRows);
addEventListener("resize", drawRows);
filter();
