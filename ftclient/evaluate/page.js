
"use strict";
const { models, rows, words } = JSON.parse(document.getElementById("data").textContent);
const STEP = 50;
const state = { kind: "all", model: models.length - 1, text: "", shown: STEP };
const byId = (id) => document.getElementById(id);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function matches(row) {
  const right = row.r[state.model];
  const first = row.r[0];
  if (state.kind === "right" && !right) return false;
  if (state.kind === "wrong" && right) return false;
  if (state.kind === "mended" && !(right && !first)) return false;
  if (state.kind === "broken" && !(first && !right)) return false;
  if (state.kind === "differ" && row.a.every((answer) => answer === row.a[0])) return false;
  if (!state.text) return true;
  return [row.q, row.e, ...row.a].some((text) => text.toLowerCase().includes(state.text));
}

function answer(name, text, mark) {
  const line = element("div", "answer");
  line.append(element("span", "name", name));
  const body = element("span", "text", text);
  line.append(body);
  if (mark !== undefined) line.append(element("span", mark ? "yes" : "no", mark ? "✓" : "✗"));
  return line;
}

function card(row, number) {
  const made = element("article", "card");
  const head = element("h3");
  head.append(element("span", "number", String(number + 1)), element("span", "text", row.q));
  made.append(head);
  if (row.m.length > 1) {
    const more = element("details");
    more.append(element("summary", "", words.conversation), element("pre", "", row.m.join("\n\n")));
    made.append(more);
  }
  made.append(answer(words.expected, row.e));
  models.forEach((model, at) => made.append(answer(model, row.x[at] ?? row.a[at], row.r[at])));
  return made;
}

function draw() {
  const found = rows.map((row, at) => [row, at]).filter(([row]) => matches(row));
  const list = byId("list");
  list.replaceChildren(...found.slice(0, state.shown).map(([row, at]) => card(row, at)));
  if (!found.length) list.append(element("p", "card soft", words.none));
  byId("count").textContent = `${found.length} ${words.of} ${rows.length} ${words.shown}`;
  byId("more").hidden = found.length <= state.shown;
}

function change(part) {
  Object.assign(state, { shown: STEP }, part);
  draw();
}

for (const button of document.querySelectorAll("[data-kind]")) {
  button.addEventListener("click", () => {
    for (const each of document.querySelectorAll("[data-kind]")) each.setAttribute("aria-pressed", String(each === button));
    change({ kind: button.dataset.kind });
  });
}
byId("model").value = String(state.model);
byId("model").addEventListener("change", (event) => change({ model: Number(event.target.value) }));
byId("search").addEventListener("input", (event) => change({ text: event.target.value.trim().toLowerCase() }));
byId("more").addEventListener("click", () => { state.shown += STEP; draw(); });
draw();
