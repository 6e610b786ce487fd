// The map: photos at their first two components, to be moved, zoomed, pointed at and chosen from.
"use strict"

const MOST_ZOOM = 400
const NEAR_PIXELS = 8 // a photo that is no farther than that is meant
const STILL_PIXELS = 4 // a pointer that moved no farther has clicked
const GOLDEN = 0.6180339887

/** 0 … count - 1 in an order that mixes them well, so that no label is drawn over all the others. */
function mixedOrder(count) {
  const common = (a, b) => (b ? common(b, a % b) : a)
  let step = Math.max(1, Math.floor(count * GOLDEN))
  while (common(count, step) > 1) step++
  return Uint32Array.from({ length: count }, (_, i) => (i * step) % count)
}

function bounds({ positions, count }) {
  if (!count) return { left: 0, right: 0, low: 0, high: 0 }
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity]
  for (let i = 0; i < 2 * count; i += 2) {
    left = Math.min(left, positions[i])
    right = Math.max(right, positions[i])
    low = Math.min(low, positions[i + 1])
    high = Math.max(high, positions[i + 1])
  }
  return { left, right, low, high }
}

class PhotoMap {
  /** `photos`: count, positions (x and y in turn), labelOf (place of each photo's label), looks (colour and marker). */
  constructor(canvas, photos) {
    Object.assign(this, { canvas, photos, bright: new Uint8Array(photos.count).fill(1), ringed: [], chosen: -1 })
    this.raster = new Raster(canvas)
    this.order = mixedOrder(photos.count)
    this.bounds = bounds(photos)
    this.hovered = this.picked = () => {} // called with a photo, or -1, and where the pointer is
    this.resize()
    new ResizeObserver(() => this.resize()).observe(canvas)
    this.listen()
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas
    const ratio = Math.min(2, devicePixelRatio || 1)
    if (!width || !height || (width === this.width && height === this.height && ratio === this.ratio)) return
    this.raster.resize(Math.round(width * ratio), Math.round(height * ratio))
    Object.assign(this, { width, height, ratio })
    if (this.view) this.view.scale *= this.measure() // what was seen stays in sight
    else this.fit()
    this.stamps = this.index = null
    this.paint() // now: a canvas that has just been resized is empty
  }

  /** Find the scale, in CSS pixels a unit, at which all photos fit in; returns it as a share of what it was. */
  measure() {
    const { left, right, low, high } = this.bounds, before = this.whole
    this.whole = Math.min((this.width - 40) / Math.max(1, right - left), (this.height - 40) / Math.max(1, high - low))
    return this.whole / before
  }

  /** Show all photos. */
  fit() {
    const { left, right, low, high } = this.bounds
    this.measure()
    this.view = { x: (left + right) / 2, y: (low + high) / 2, scale: this.whole }
    this.redraw({ stamps: true })
  }

  pan(right, down) {
    this.view.x -= right / this.view.scale
    this.view.y += down / this.view.scale
    this.redraw()
  }

  /** Come closer by a factor, and keep what lies at (x, y) where it is. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(MOST_ZOOM * this.whole, Math.max(this.whole / 2, this.view.scale * factor))
    const [right, up] = [x - this.width / 2, this.height / 2 - y]
    this.view.x += right / this.view.scale - right / scale
    this.view.y += up / this.view.scale - up / scale
    this.view.scale = scale
    this.redraw({ stamps: true })
  }

  /** Where a photo is, in CSS pixels. */
  place(photo) {
    const { positions } = this.photos, { x, y, scale } = this.view
    return [(positions[2 * photo] - x) * scale + this.width / 2, this.height / 2 - (positions[2 * photo + 1] - y) * scale]
  }

  /** Bring a photo into sight. */
  reveal(photo) {
    const [x, y] = this.place(photo)
    if (x < 20 || y < 20 || x > this.width - 20 || y > this.height - 20) this.pan(this.width / 2 - x, this.height / 2 - y)
  }

  /** Draw at the next frame; `stamps`: points are larger, smaller or of other colours than before. */
  redraw({ stamps = false } = {}) {
    if (stamps) this.stamps = null
    this.index = null
    this.waiting ??= requestAnimationFrame(() => this.paint())
  }

  /** A point's radius in CSS pixels: smaller where there are many, larger as one comes closer. */
  radius() {
    const room = Math.sqrt((this.width * this.height) / 600_000)
    const base = Math.max(1.25, Math.min(4.5, (300 * room) / Math.sqrt(this.photos.count)))
    return Math.min(Math.max(5, base), base * (this.view.scale / this.whole) ** 0.35)
  }

  makeStamps() {
    const style = getComputedStyle(this.canvas)
    const [paper, grey] = [style.backgroundColor, style.color].map((colour) => colour.match(/\d+/g).slice(0, 3).map(Number))
    const radius = this.radius() * this.ratio, edge = radius > 2 ? 0.7 * this.ratio : 0
    const made = new Map()
    this.paper = packed(paper)
    this.ink = style.borderTopColor
    this.grey = this.raster.stamp(0, 0.75 * radius, grey, 0, paper)
    this.stamps = this.photos.looks.map(([colour, marker]) => {
      const key = colour + marker
      if (!made.has(key)) made.set(key, this.raster.stamp(marker, radius, toned(colour), edge, paper))
      return made.get(key)
    })
  }

  paint() {
    cancelAnimationFrame(this.waiting)
    this.waiting = undefined
    if (!this.view) return
    if (!this.stamps) this.makeStamps()
    const { raster, bright, stamps, order, ratio } = this, { positions, labelOf, count } = this.photos
    const scale = this.view.scale * ratio
    const [left, top] = [raster.width / 2 - this.view.x * scale, raster.height / 2 + this.view.y * scale]
    const [right, bottom, least] = [raster.width + MARGIN / 2, raster.height + MARGIN / 2, -MARGIN / 2]
    raster.pixels.fill(this.paper)
    for (let pass = 0; pass < 2; pass++) { // what is dimmed lies below
      for (let k = 0; k < count; k++) {
        const i = order[k]
        if (bright[i] !== pass) continue
        const x = positions[2 * i] * scale + left, y = top - positions[2 * i + 1] * scale
        if (x > least && y > least && x < right && y < bottom) raster.put(pass ? stamps[labelOf[i]] : this.grey, x, y)
      }
    }
    raster.show()
    this.drawRings()
  }

  /** Circles around the chosen photo and its neighbours. */
  drawRings() {
    const { context } = this.raster
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0)
    context.strokeStyle = this.ink
    for (const photo of this.ringed) this.ring(context, photo, 1.5, 3)
    if (this.chosen >= 0) this.ring(context, this.chosen, 2.5, 7)
    context.setTransform(1, 0, 0, 1, 0, 0)
  }

  ring(context, photo, line, distance) {
    context.lineWidth = line
    context.beginPath()
    context.arc(...this.place(photo), this.radius() + distance, 0, 2 * Math.PI)
    context.stroke()
  }

  /** Which photo is drawn at each CSS pixel, plus one; 0 where none is. Made when it is first asked for. */
  makeIndex() {
    const index = new Int32Array(this.width * this.height)
    const { bright, order, view } = this, { positions, count } = this.photos
    const reach = Math.max(1, Math.round(this.radius()))
    for (let k = 0; k < count; k++) {
      const i = order[k]
      if (!bright[i]) continue
      const x = Math.round((positions[2 * i] - view.x) * view.scale + this.width / 2)
      const y = Math.round(this.height / 2 - (positions[2 * i + 1] - view.y) * view.scale)
      if (x < reach || y < reach || x >= this.width - reach || y >= this.height - reach) continue
      for (let row = y - reach; row <= y + reach; row++) index.fill(i + 1, row * this.width + x - reach, row * this.width + x + reach + 1)
    }
    return index
  }

  /** The photo at a place, or the nearest one not far from it, or -1. */
  at(x, y, near = NEAR_PIXELS) {
    this.index ??= this.makeIndex()
    let [found, nearest] = [-1, Infinity]
    for (let dy = -near; dy <= near; dy++) {
      for (let dx = -near; dx <= near; dx++) {
        const [column, row, far] = [Math.round(x) + dx, Math.round(y) + dy, dx * dx + dy * dy]
        if (far >= nearest || column < 0 || row < 0 || column >= this.width || row >= this.height) continue
        const photo = this.index[row * this.width + column] - 1
        if (photo >= 0) [found, nearest] = [photo, far]
      }
    }
    return found
  }

  listen() {
    const { canvas } = this, pressed = new Map()
    let travelled = 0
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId)
      if (!pressed.size) travelled = 0
      pressed.set(event.pointerId, { x: event.offsetX, y: event.offsetY })
      this.hovered(-1)
    }
    canvas.onpointermove = (event) => {
      const last = pressed.get(event.pointerId), now = { x: event.offsetX, y: event.offsetY }
      if (!last) return void this.hovered(this.at(now.x, now.y), now.x, now.y)
      travelled += Math.hypot(now.x - last.x, now.y - last.y)
      const other = [...pressed].find(([id]) => id !== event.pointerId)?.[1]
      pressed.set(event.pointerId, now)
      if (!other) return void this.pan(now.x - last.x, now.y - last.y)
      const apart = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y))
      this.zoom(apart(now) / apart(last), (now.x + other.x) / 2, (now.y + other.y) / 2)
    }
    canvas.onpointerup = (event) => {
      const alone = pressed.size === 1
      pressed.delete(event.pointerId)
      if (alone && travelled <= STILL_PIXELS) this.picked(this.at(event.offsetX, event.offsetY))
    }
    canvas.onpointercancel = (event) => pressed.delete(event.pointerId)
    canvas.onpointerleave = () => this.hovered(-1)
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return // a plain wheel scrolls the page
      event.preventDefault()
      this.zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY)
    }, { passive: false })
    canvas.onkeydown = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return
      const act = {
        ArrowLeft: () => this.pan(60, 0), ArrowRight: () => this.pan(-60, 0),
        ArrowUp: () => this.pan(0, 60), ArrowDown: () => this.pan(0, -60),
        "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: () => this.fit(),
        Enter: () => this.picked(this.at(this.width / 2, this.height / 2, Math.max(this.width, this.height) / 2)),
      }[event.key]
      if (!act) return
      event.preventDefault()
      act()
    }
  }
}
