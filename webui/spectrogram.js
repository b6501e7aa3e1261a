// A scrolling spectrogram on a canvas: Hann windows of 512, one column every 10 ms, 0 to 12 kHz.
const SIZE = 512;
const WINDOW = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
const COLOURS = Array.from({ length: 256 }, (_, i) => {
  const t = i / 255;
  return [255 * Math.min(1, Math.max(0, 1.6 * t - 0.55) + 0.12 * t), 255 * Math.min(1, 1.15 * t ** 1.3), 255 * Math.min(1, 0.14 + 0.75 * t ** 0.8)];
});

export class Spectrogram {
  constructor(canvas, rate = 48000) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: false });
    this.rate = rate;
    this.hop = Math.round(rate / 100);
    this.sound = new Float32Array(SIZE);
    this.waiting = 0;
    this.column = this.context.createImageData(1, canvas.height);
    this.clear();
  }

  clear() {
    this.context.fillStyle = "#060d14";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.drawn = 0;
  }

  push(sound) {
    for (let at = 0; at < sound.length; ) {
      const part = sound.subarray(at, at + this.hop - this.waiting);
      this.sound.copyWithin(0, part.length);
      this.sound.set(part, SIZE - part.length);
      this.waiting += part.length;
      at += part.length;
      if (this.waiting === this.hop) {
        this.waiting = 0;
        this.draw();
      }
    }
  }

  draw() {
    const { context, canvas } = this;
    const powers = spectrum(this.sound);
    const top = Math.min(SIZE / 2, Math.round((12000 / this.rate) * SIZE));
    for (let y = 0; y < canvas.height; y++) {
      const bin = Math.floor(((canvas.height - 1 - y) / canvas.height) * top);
      const level = (10 * Math.log10(powers[bin] + 1e-12) + 90) / 80;
      const [r, g, b] = COLOURS[Math.max(0, Math.min(255, Math.round(255 * level)))];
      this.column.data.set([r, g, b, 255], 4 * y);
    }
    context.drawImage(canvas, -2, 0);
    context.putImageData(this.column, canvas.width - 2, 0);
    context.putImageData(this.column, canvas.width - 1, 0);
    this.drawn += 1;
    delete this.canvas.parentElement.dataset.empty;
  }

  // A whole recording, fitted to the width.
  whole(sound) {
    this.clear();
    const step = sound.length / this.canvas.width;
    for (let x = 0; x < this.canvas.width; x++) {
      const start = Math.max(0, Math.min(sound.length - SIZE, Math.round(x * step)));
      this.sound.fill(0);
      this.sound.set(sound.subarray(start, start + SIZE));
      const powers = spectrum(this.sound);
      const top = Math.min(SIZE / 2, Math.round((12000 / this.rate) * SIZE));
      for (let y = 0; y < this.canvas.height; y++) {
        const level = (10 * Math.log10(powers[Math.floor(((this.canvas.height - 1 - y) / this.canvas.height) * top)] + 1e-12) + 90) / 80;
        const [r, g, b] = COLOURS[Math.max(0, Math.min(255, Math.round(255 * level)))];
        this.column.data.set([r, g, b, 255], 4 * y);
      }
      this.context.putImageData(this.column, x, 0);
    }
    this.drawn = this.canvas.width;
    delete this.canvas.parentElement.dataset.empty;
  }
}

const COSINES = Float32Array.from({ length: SIZE / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
const SINES = Float32Array.from({ length: SIZE / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / SIZE));

// Powers of the first half of an FFT (radix 2, in place).
function spectrum(sound) {
  const re = new Float32Array(SIZE);
  const im = new Float32Array(SIZE);
  for (let i = 0, j = 0; i < SIZE; i++) {
    re[j] = sound[i] * WINDOW[i];
    let bit = SIZE >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
  }
  for (let size = 2; size <= SIZE; size *= 2) {
    const step = SIZE / size;
    for (let start = 0; start < SIZE; start += size)
      for (let k = 0; k < size / 2; k++) {
        const a = start + k;
        const b = a + size / 2;
        const r = re[b] * COSINES[k * step] + im[b] * SINES[k * step];
        const s = im[b] * COSINES[k * step] - re[b] * SINES[k * step];
        re[b] = re[a] - r;
        im[b] = im[a] - s;
        re[a] += r;
        im[a] += s;
      }
  }
  return Float32Array.from({ length: SIZE / 2 }, (_, i) => (re[i] ** 2 + im[i] ** 2) / (SIZE * SIZE) * 16);
}
