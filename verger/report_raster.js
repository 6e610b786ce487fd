// Points → pixels, without a graphics card: each point is a small stamp of ready-made pixels, copied into the picture.
"use strict"

const MARGIN = 48 // pixels around what is seen, so that no stamp needs clipping
const SUBPIXELS = 4 // by so many in each direction, the edges of stamps are made smooth

// Which points of the square from -1 to 1 each marker covers; y points down. The same markers for the legend follow.
const MARKERS = [
  (x, y) => x * x + y * y < 1,
  (x, y) => Math.max(Math.abs(x), Math.abs(y)) < 0.86,
  (x, y) => y < 0.8 && y > 1.9 * Math.abs(x) - 1.1,
  (x, y) => 1.2 * Math.abs(x) + Math.abs(y) < 1.15,
  (x, y) => y > -0.8 && y < 1.1 - 1.9 * Math.abs(x),
]
const MARKER_PATHS = ["M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0", "M-4.3-4.3h8.6v8.6h-8.6z", "M0-5.5 5 4H-5z", "M0-5.7 4.8 0 0 5.7-4.8 0z", "M0 5.5 5-4H-5z"]

/** How much of a pixel, from 0 to 1, a marker of a radius covers. */
function coverage(marker, x, y, radius) {
  let covered = 0
  for (let i = 0; i < SUBPIXELS; i++) {
    for (let j = 0; j < SUBPIXELS; j++) {
      const [dx, dy] = [(i + 0.5) / SUBPIXELS - 0.5, (j + 0.5) / SUBPIXELS - 0.5]
      covered += MARKERS[marker]((x + dx) / radius, (y + dy) / radius)
    }
  }
  return covered / SUBPIXELS ** 2
}

const packed = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red
const mixed = (from, to, share) => from.map((channel, i) => Math.round(channel + (to[i] - channel) * share))

/** One packed colour laid over another; `share` from 0 to 256. Red and blue are reckoned together. */
function blend(under, over, share) {
  const odd = ((under & 0xff00ff) * (256 - share) + (over & 0xff00ff) * share) >>> 8
  const even = ((under & 0xff00) * (256 - share) + (over & 0xff00) * share) >>> 8
  return 0xff000000 | (odd & 0xff00ff) | (even & 0xff00)
}

class Raster {
  constructor(canvas) {
    this.context = canvas.getContext("2d", { alpha: false })
  }

  /** Begin an empty picture of so many pixels. */
  resize(width, height) {
    Object.assign(this.context.canvas, { width, height })
    this.width = width
    this.height = height
    this.stride = width + 2 * MARGIN
    this.image = new ImageData(this.stride, height + 2 * MARGIN)
    this.pixels = new Uint32Array(this.image.data.buffer)
  }

  /** A marker in a colour, with an edge that sets it off from others. Colours are [red, green, blue]. */
  stamp(marker, radius, colour, edge, edgeColour) {
    const reach = Math.ceil(radius + edge), pixels = []
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) {
        const outer = coverage(marker, x, y, radius + edge), inner = coverage(marker, x, y, radius)
        if (outer > 0) pixels.push([y * this.stride + x, packed(mixed(edgeColour, colour, inner / outer)), Math.round(256 * outer)])
      }
    }
    const column = (i, kind) => kind.from(pixels, (pixel) => pixel[i])
    return { offsets: column(0, Int32Array), colours: column(1, Uint32Array), shares: column(2, Uint16Array) }
  }

  /** Put a stamp at a pixel, which may lie up to half a margin outside. */
  put(stamp, x, y) {
    const start = (Math.round(y) + MARGIN) * this.stride + Math.round(x) + MARGIN
    const { offsets, colours, shares } = stamp, pixels = this.pixels
    for (let i = 0; i < offsets.length; i++) {
      const at = start + offsets[i]
      pixels[at] = shares[i] === 256 ? colours[i] : blend(pixels[at], colours[i], shares[i])
    }
  }

  show() {
    this.context.putImageData(this.image, -MARGIN, -MARGIN)
  }
}
