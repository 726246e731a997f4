// The gallery. Label maps are unpacked and painted only while their card is on screen: sixty strips
// with three predictions each would hold 400 MB of canvas.
if ($("#gallery")) {
  const PAGE = 12;
  const { names, palette, classes, items } = JSON.parse($("#gallery-data").textContent);
  const colour = (k) => palette[(k - 1) % palette.length];
  const titled = (k) => `class ${classes[k - 1]}`;
  const filters = $("#filters");
  const cards = new Map();  // item -> its card, so that a card keeps its wipe
  let listed = [];
  let limit = PAGE;

  const option = (name) => filters.elements[name].value;
  const judged = () => (option("variant") === "" ? names.map((_, v) => v) : [Number(option("variant"))]);
  const element = (tag, content, className = "") => {
    const made = document.createElement(tag);
    made.textContent = content;
    made.className = className;
    return made;
  };

  // ---- which cards, in which order

  function matches(item) {
    const shown = judged();
    const kind = option("kind");
    const wanted = option("class");
    const right = (v) => !["missed", "false", "wrong"].some((error) => item.defects[v][error]);
    if (kind === "right" && !shown.every(right)) return false;
    if (kind && kind !== "right" && !shown.some((v) => item.defects[v][kind])) return false;
    if (wanted === "clean") return item.classes.length === 0;
    return wanted === "" || [item.classes, ...shown.map((v) => item.found[v])].some(
      (classes) => classes.includes(Number(wanted)));
  }

  function sorted(found) {
    const scores = (item) => judged().map((v) => item.dice[v]);
    const mean = (item) => scores(item).reduce((a, b) => a + b, 0) / scores(item).length;
    const spread = (item) => Math.max(...scores(item)) - Math.min(...scores(item));
    const key = {
      worst: mean,
      best: (item) => -mean(item),
      apart: (item) => -spread(item),
      name: () => 0,
    }[option("order")];
    const keyed = found.map((item) => [key(item), item]);
    const byName = (a, b) => (a.name < b.name ? -1 : 1);
    return keyed.sort(([a, p], [b, q]) => (a === b ? byName(p, q) : a - b)).map(([, item]) => item);
  }

  function update() {
    listed = sorted(items.filter(matches));
    const shown = listed.slice(0, limit);
    $("#cards").replaceChildren(...shown.map(card));
    for (const item of shown) dress(item);
    $("#more").hidden = shown.length === listed.length;
    $("#shown").textContent = `${listed.length} of ${items.length} images` +
      (shown.length < listed.length ? `, the first ${shown.length} shown` : "");
    $("#error-legend").hidden = option("paint") !== "errors";
  }

  // ---- cards

  function card(item) {
    if (!cards.has(item)) cards.set(item, makeCard(item));
    return cards.get(item);
  }

  function makeCard(item) {
    const made = $("#card").content.cloneNode(true).firstElementChild;
    const range = $("input", made);
    $("h3", made).textContent = item.name;
    range.setAttribute("aria-label", `Wipe ${item.name}`);
    made.style.setProperty("--aspect", `${item.width} / ${item.height}`);
    made.style.setProperty("--width", `${item.width}px`);
    made.style.setProperty("--panel", item.width > 2 * item.height ? "30rem" : "15rem");
    made.style.setProperty("--wipe", "0");
    for (const k of item.classes) {
      const fact = element("li", titled(k));
      const swatch = element("i", "");
      swatch.style.background = `rgb(${colour(k)})`;
      fact.prepend(swatch);
      $(".facts", made).append(fact);
    }
    if (!item.classes.length) $(".facts", made).append(element("li", "no defect"));
    range.addEventListener("input", () => made.style.setProperty("--wipe", range.value));
    $(".enlarge", made).addEventListener("click", () => enlarge(item));
    observer.observe(made);
    made.item = item;
    return made;
  }

  // Fits an item's card to the filters: its panels, their captions, its paint.
  function dress(item, made = card(item)) {
    $(".panels", made).replaceChildren(
      panel(made, "Truth", null),
      ...judged().map((v) => panel(made, names[v], v)),
    );
    if (made.onScreen) paint(made);
  }

  function panel(made, name, v) {
    const { item } = made;
    const figure = $("#panel").content.cloneNode(true).firstElementChild;
    const caption = $("figcaption", figure);
    caption.append(element("span", name, v === null ? "name" : `name v${v % 6}`));
    if (v !== null) {
      const { missed, wrong, false: invented } = item.defects[v];
      caption.append(element("span", `Dice ${item.dice[v].toFixed(3)}`, "figure"));
      const errors = [[missed, "missed"], [wrong, "wrong class"], [invented, invented > 1 ? "false alarms" : "false alarm"]];
      const text = errors.filter(([n]) => n).map(([n, what]) => `${n} ${what}`).join(", ");
      if (text) caption.append(element("b", text));
    }
    figure.variant = v;
    made.url ??= URL.createObjectURL(new Blob([bytes(item.image)], { type: "image/webp" }));
    $("img", figure).src = made.url;
    $("img", figure).alt = `${item.name}, ${name}`;
    wipe($(".stage", figure), made);
    return figure;
  }

  function wipe(stage, made) {
    let start = null;
    let moved = false;
    const range = $("input", made);
    const move = (event) => {
      const box = stage.getBoundingClientRect();
      range.value = String(Math.round(100 * (event.clientX - box.left) / box.width));
      range.dispatchEvent(new Event("input"));
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = event.clientX;
      moved = false;
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      readOut(stage, made, event);
      if (start === null) return;
      moved ||= Math.abs(event.clientX - start) > 4;
      if (moved) move(event);
    });
    stage.addEventListener("pointerup", () => {
      if (start !== null && !moved && !made.closest("dialog")) enlarge(made.item);
      start = null;
    });
    stage.addEventListener("pointercancel", () => { start = null; });
    stage.addEventListener("pointerleave", () => { $(".readout", made).textContent = ""; });
  }

  function readOut(stage, made, event) {
    if (!made.maps) return;
    const { item } = made;
    const box = stage.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left) / box.width * item.width);
    const y = Math.floor((event.clientY - box.top) / box.height * item.height);
    if (x < 0 || y < 0 || x >= item.width || y >= item.height) return;
    const named = (k) => (k ? titled(k) : "no defect");
    const v = stage.closest(".panel").variant;
    const truth = made.maps.truth[y * item.width + x];
    const said = v === null ? "" : `, ${names[v]} says ${named(made.maps[v][y * item.width + x])}`;
    $(".readout", made).textContent = `x ${x}, y ${y}: truth ${named(truth)}${said}`;
  }

  // ---- what is on screen

  function paint(made) {
    const { item } = made;
    if (!made.maps) {
      const maps = item.maps.map((text) => unpack(text, item));
      made.maps = Object.assign(maps, { truth: unpack(item.truth, item) });
    }
    for (const figure of $$(".panel", made)) {
      const { variant } = figure;
      // How many pixels of the image one of the screen covers: patterns and outlines keep their size.
      const scale = item.width / Math.max($(".stage", figure).clientWidth, 1);
      const { truth } = made.maps;
      const labels = variant === null ? truth : made.maps[variant];
      const errors = variant !== null && option("paint") === "errors";
      if (errors) drawErrors($(".over", figure), truth, labels, item, scale);
      else drawClasses($(".over", figure), labels, item, scale, colour);
      if (option("under") === "truth") drawClasses($(".under", figure), truth, item, scale, colour);
    }
    made.dataset.painted = "true";
  }

  function release(made) {
    for (const canvas of $$("canvas", made)) canvas.width = canvas.height = 0;
    made.maps = null;
    delete made.dataset.painted;
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.onScreen = isIntersecting;
      if (isIntersecting) paint(target);
      else release(target);
    }
  }, { rootMargin: "300px" });

  // ---- one image at full width

  const large = $("#large");
  let current = null;

  function enlarge(item) {
    current = item;
    $("#large-name").textContent = item.name;
    const made = makeCard(item);
    $("input", made).value = $("input", card(item)).value;
    made.style.setProperty("--wipe", $("input", made).value);
    const before = $(".card", large);
    if (before) discard(before);
    $(".large-body").replaceChildren(made);
    dress(item, made);
    const at = listed.indexOf(item);
    for (const button of $$("[data-step]", large)) {
      button.disabled = !listed[at + Number(button.dataset.step)];
    }
    if (!large.open) {
      zoom(item.width > 2 * innerWidth);  // On a phone a whole strip would be too low to see.
      large.showModal();
    }
    $("input", made).focus();
  }

  function discard(made) {
    observer.unobserve(made);
    release(made);
    if (made.url) URL.revokeObjectURL(made.url);
  }

  for (const button of $$("[data-step]", large)) {
    button.addEventListener("click", () => enlarge(listed[listed.indexOf(current) + Number(button.dataset.step)]));
  }
  $("#close").addEventListener("click", () => large.close());
  large.addEventListener("close", () => {
    discard($(".card", large));
    $(".large-body").replaceChildren();
  });
  function zoom(actual) {
    $(".large-body").classList.toggle("actual", actual);
    $("#zoom").setAttribute("aria-pressed", String(actual));
  }

  $("#zoom").addEventListener("click", () => {
    zoom(!$(".large-body").classList.contains("actual"));
    paint($(".card", large));
  });

  filters.addEventListener("change", () => {
    limit = PAGE;
    update();
  });
  filters.addEventListener("submit", (event) => event.preventDefault());
  $("#more").addEventListener("click", () => {
    limit += PAGE;
    update();
  });
  // Paper has no scroll position: paint all that is listed before printing.
  addEventListener("beforeprint", () => {
    for (const made of $$("#cards .card")) {
      made.onScreen = true;
      paint(made);
    }
  });
  update();
}
