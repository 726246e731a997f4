"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

function press(buttons, chosen) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
}

// Light and dark: what the system asks for, until the reader chooses.
{
  const button = $("#theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const memory = {
    // Storage may be forbidden, as in some browsers for a page opened from a file.
    get() { try { return localStorage.getItem("theme"); } catch { return null; } },
    set(theme) { try { localStorage.setItem("theme", theme); } catch { /* forgets on reload */ } },
  };
  let chosen = memory.get();
  const isDark = () => (chosen ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    if (chosen) document.documentElement.dataset.theme = chosen;
    button.setAttribute("aria-pressed", String(isDark()));
  };
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    memory.set(chosen);
    show();
  });
  system.addEventListener("change", show);
  show();
}

// Choices of which one panel shows. Selects of one name stay in step.
for (const select of $$("select[data-switch]")) {
  select.addEventListener("change", () => choose(select.dataset.switch, select.value));
}

function choose(name, value) {
  for (const other of $$("select[data-switch]")) {
    const offers = [...other.options].some((option) => option.value === value);
    if (other.dataset.switch === name && offers) other.value = value;
  }
  for (const panel of $$("[data-case]")) {
    if (panel.dataset.case === name) panel.hidden = panel.dataset.value !== value;
  }
}

// The table: column sets, decision rule, sorting.
{
  const table = $("#figures");
  const heads = $$("thead th", table);
  const views = $$("[data-view]");
  const decisions = $$("button[data-decision]");
  let sorted = null;

  const view = (button) => {
    press(views, button);
    for (const cell of $$("[data-views]", table)) {
      cell.hidden = !cell.dataset.views.split("|").includes(button.dataset.view);
    }
  };
  const sort = (head, direction) => {
    const column = heads.indexOf(head);
    const decision = table.dataset.decision;
    const sign = direction === "ascending" ? 1 : -1;
    const valued = [...table.tBodies[0].rows].map((row) => [row.cells[column].dataset[decision], row]);
    const compare = ([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");  // No figure: last either way.
      return sign * (column ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    };
    table.tBodies[0].append(...valued.sort(compare).map(([, row]) => row));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    sorted = [head, direction];
    $("#sorted").textContent = `Sorted by ${$(".sort", head).textContent}, ${direction}`;
  };

  for (const button of views) button.addEventListener("click", () => view(button));
  for (const button of decisions) {
    button.addEventListener("click", () => {
      press(decisions, button);
      table.dataset.decision = button.dataset.decision;
      if (sorted) sort(...sorted);
    });
  }
  for (const head of heads) {
    const button = $(".sort", head);
    button.addEventListener("click", () => {
      const opposite = { ascending: "descending", descending: "ascending" };
      sort(head, opposite[head.getAttribute("aria-sort")] ?? button.dataset.first);
    });
  }
  view(views[0]);
}

// Charts: dim all variants but one.
{
  const charts = $(".charts");
  const buttons = $$("[data-highlight]", $(".legend"));
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const off = button.getAttribute("aria-pressed") === "true";
      press(buttons, off ? null : button);
      if (off) delete charts.dataset.highlight;
      else charts.dataset.highlight = button.dataset.highlight;
    });
  }
}

// Notes: whatever has data-tip shows it on hover, focus and tap, without the wait of a title.
{
  for (const title of $$("svg title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  const tip = $("#tip");
  let shown = null;
  const hide = () => {
    if (shown) tip.hidePopover();
    shown = null;
  };
  const show = (event) => {
    const target = event.target.closest?.("[data-tip]");
    if (target === shown) return;
    // Scrolling to what has the focus brings other things under a pointer at rest.
    if (!target && event.type === "pointerover" && shown === document.activeElement) return;
    hide();
    if (!target) return;
    shown = target;
    tip.textContent = target.dataset.tip;
    tip.showPopover();
    place();
  };
  const place = () => {
    if (!shown) return;
    const box = shown.getBoundingClientRect();
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  };
  for (const type of ["pointerover", "focusin", "click"]) document.addEventListener(type, show);
  // Not hidden: focus by keyboard scrolls to what it reaches.
  document.addEventListener("scroll", place, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
}
