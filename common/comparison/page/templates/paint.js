// Label maps as the gallery draws them. A map is a Uint8Array along the rows, 0 for no defect;
// `size` has its width and height; `scale` says how many of its pixels one of the screen covers, so
// that outlines and patterns look alike at every size.

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// Runs of a class byte and a length in LEB128.
function unpack(text, { width, height }) {
  const packed = bytes(text);
  const labels = new Uint8Array(width * height);
  for (let i = 0, start = 0; i < packed.length;) {
    const label = packed[i++];
    let length = 0;
    let shift = 0;
    do {
      length |= (packed[i] & 127) << shift;
      shift += 7;
    } while (packed[i++] & 128);
    labels.fill(label, start, start + length);
    start += length;
  }
  return labels;
}

// One pixel as canvas memory holds it: alpha, blue, green, red from the highest byte.
const pixel = ([red, green, blue], alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

function drawClasses(canvas, labels, size, scale, colour) {
  const codes = Array.from({ length: 256 }, (_, k) => (k ? colour(k) : [0, 0, 0]));
  const area = codes.map((ink) => pixel(ink, 115));
  draw(canvas, labels, size, scale, codes.map((ink) => pixel(ink, 255)), (code) => area[code]);
}

// Each kind has a hue and a pattern, so that hue is not needed: hits plain, misses striped, false
// alarms striped the other way, wrong classes in squares.
function drawErrors(canvas, truth, prediction, size, scale) {
  const codes = new Uint8Array(truth.length);
  for (let i = 0; i < codes.length; i++) {
    const t = truth[i];
    const p = prediction[i];
    if (t || p) codes[i] = t === p ? 1 : !p ? 2 : !t ? 3 : 4;
  }
  const style = getComputedStyle(document.documentElement);
  const inks = ["hit", "hit", "missed", "false", "wrong"].map((kind) => {
    const hex = style.getPropertyValue(`--${kind}`).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
  const [light, plain, dark, edge] = [60, 85, 225, 255].map((alpha) => inks.map((ink) => pixel(ink, alpha)));
  const half = Math.max(2, Math.round(3.5 * scale));
  const odd = (n) => Math.floor(n / half) & 1;
  draw(canvas, codes, size, scale, edge, (code, x, y) => {
    if (code === 1) return plain[code];
    const marked = code === 2 ? odd(x + y) : code === 3 ? odd(x - y) : odd(x) === odd(y);
    return (marked ? dark : light)[code];
  });
}

// Draws every code but 0: fill(code, x, y) inside, edge[code] along its outline.
function draw(canvas, codes, { width, height }, scale, edge, fill) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const reach = Math.max(1, Math.round(scale));
  const down = reach * width;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const code = codes[i];
      if (!code) continue;
      const outline =
        (x >= reach && codes[i - reach] !== code) || (x + reach < width && codes[i + reach] !== code) ||
        (y >= reach && codes[i - down] !== code) || (y + reach < height && codes[i + down] !== code);
      pixels[i] = outline ? edge[code] : fill(code, x, y);
    }
  }
  context.putImageData(picture, 0, 0);
}
