// The page: what it carries, and what happens when somebody points, clicks, types or prints.
"use strict"

const LABELS_LISTED = 200
const PICTURES = 12 // nearest photos that are shown
const NEIGHBOURS = 50 // nearest photos whose labels are counted
const LABELS_COUNTED = 8

const byId = (id) => document.getElementById(id)
const words = JSON.parse(byId("words").textContent)
const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`

function bytesOf(id) {
  const text = atob(byId(id).textContent), bytes = new Uint8Array(text.length)
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}

/** A new element; strings among the children stay text. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "class") made.setAttribute(name, value)
    else made[name] = value
  }
  made.append(...children)
  return made
}

// The photos

const folderOf = words.folders.length > 65_536 ? new Uint32Array(bytesOf("folders").buffer) : new Uint16Array(bytesOf("folders").buffer)
const labelOf = Uint32Array.from(folderOf, (folder) => words.folders[folder][1])
const pathOf = (photo) => [words.folders[folderOf[photo]][0], words.names[photo]].filter(Boolean).join("/")
const photos = { count: words.names.length, positions: new Int16Array(bytesOf("positions").buffer), labelOf, looks: words.looks }
const pictured = new Map(words.pictured.map((photo, line) => [photo, line]))
const later = (make) => { let made; return () => (made ??= make()) }
const pictures = later(() => byId("thumbnails").textContent.split("\n"))
const neighbours = later(() => new Neighbours(new Int8Array(bytesOf("components").buffer), words.scales))
const lowered = later(() => words.names.map((name) => name.toLowerCase()))

function picture(photo) {
  const line = pictured.get(photo)
  if (line === undefined) return element("span", { class: "blank" }, "no picture in this page")
  return element("img", { alt: "", src: `data:image/jpeg;base64,${pictures()[line]}` })
}

// Light and dark

const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark"

/** A label's colour, as [red, green, blue]: lighter on a dark page. */
function toned(colour) {
  const channels = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16))
  return dark() ? mixed(channels, [255, 255, 255], 0.3) : channels
}

/** `light`, `dark`, or as the system has it. */
function setTheme(theme = "") {
  if (theme) document.documentElement.dataset.theme = theme
  else delete document.documentElement.dataset.theme
  byId("theme").textContent = dark() ? "Light page" : "Dark page"
  map.redraw({ stamps: true })
  listLabels()
  if (map.chosen >= 0) choose(map.chosen)
}

// Which photos are in colour: those of labels that are on, that are sought, and of the label that is pointed at

const map = new PhotoMap(byId("map"), photos)
const hidden = new Set()
let sought = null // 1 for each photo that is sought; null while nothing is
let found = [] // those photos
let lit = -1

function refresh() {
  const on = words.labels.map((_, label) => !hidden.has(label) && (lit < 0 || lit === label))
  for (let i = 0; i < photos.count; i++) map.bright[i] = on[labelOf[i]] && (!sought || sought[i])
  map.redraw()
}

/** Photos with this text in their label or their path, in either case of letters. */
function search(text) {
  const wanted = text.trim().toLowerCase()
  sought = wanted ? new Uint8Array(photos.count) : null
  found = []
  if (sought) {
    const folders = words.folders.map(([folder, label]) => [folder.toLowerCase(), words.labels[label].toLowerCase()])
    const whole = folders.map((names) => names.some((name) => name.includes(wanted)))
    const ends = folders.map(([folder]) => folder && `${folder.slice(-wanted.length)}/`) // the text may cross the last slash
    for (let i = 0; i < photos.count; i++) {
      const folder = folderOf[i]
      if (whole[folder] || (ends[folder] + lowered()[i]).includes(wanted)) found.push(i)
    }
    for (const photo of found) sought[photo] = 1
  }
  byId("found").textContent = !sought ? "" : found.length
    ? `${counted(found.length, "photo")} of ${counted(tally(found, labelOf).length, "label")}. Enter goes from one to the next.`
    : "No label and no path has this in it."
  listLabels()
  refresh()
}

// The legend

const marker = (label) => {
  const [colour, shape] = words.looks[label]
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  svg.setAttribute("viewBox", "-6 -6 12 12")
  svg.setAttribute("aria-hidden", "true")
  const path = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"))
  path.setAttribute("d", MARKER_PATHS[shape])
  path.setAttribute("fill", `rgb(${toned(colour)})`)
  return svg
}

function light(label) {
  lit = label
  refresh()
}

function listLabels() {
  const counts = new Map(tally(sought ? found : labelOf.keys(), labelOf))
  const labels = [...counts.keys()].sort((a, b) => a - b)
  byId("labels").replaceChildren(...labels.slice(0, LABELS_LISTED).map((label) => {
    const button = element("button", { ariaPressed: !hidden.has(label) }, marker(label), element("span", {}, words.labels[label]), element("b", {}, counts.get(label).toLocaleString("en")))
    button.onclick = () => {
      hidden[hidden.has(label) ? "delete" : "add"](label)
      button.ariaPressed = !hidden.has(label)
      light(-1)
    }
    button.onpointerenter = ({ pointerType }) => { if (pointerType === "mouse" && !hidden.has(label)) light(label) }
    button.onpointerleave = () => light(-1)
    return element("li", {}, button)
  }))
  const more = labels.length - LABELS_LISTED
  byId("more-labels").textContent = more > 0 ? `and ${counted(more, "more label")}: the search finds them` : ""
}

function showAll(on) {
  hidden.clear()
  if (!on) words.labels.forEach((_, label) => hidden.add(label))
  listLabels()
  refresh()
}

// A photo that is pointed at, and one that is chosen

map.hovered = (photo, x, y) => {
  const tip = byId("tip")
  tip.hidden = photo < 0
  if (photo < 0) return
  tip.replaceChildren(picture(photo), element("b", {}, words.labels[labelOf[photo]]), element("span", {}, pathOf(photo)))
  const room = map.canvas.clientWidth - tip.offsetWidth - 4
  tip.style.left = `${Math.max(4, x + 16 > room ? Math.min(room, x - tip.offsetWidth - 16) : x + 16)}px`
  tip.style.top = `${Math.max(4, Math.min(map.canvas.clientHeight - tip.offsetHeight - 4, y + 12))}px`
}

map.picked = (photo) => { if (photo >= 0) choose(photo) }

function choose(photo) {
  const distances = neighbours().distances(photo), label = labelOf[photo]
  const close = nearest(distances, labelOf.keys(), photo, NEIGHBOURS)
  const shown = nearest(distances, words.pictured, photo, PICTURES)
  map.chosen = photo
  map.ringed = shown
  map.reveal(photo)
  map.redraw()
  const same = close.filter((other) => labelOf[other] === label).length, others = labelOf.filter((one) => one === label).length - 1
  byId("chosen").replaceChildren(
    picture(photo), element("b", {}, words.labels[label]), element("code", {}, pathOf(photo)),
    element("p", {}, close.length
      ? `${same} of the ${close.length} nearest have the same label. ${counted(others, "other photo")} on this map ${others === 1 ? "has" : "have"} it.`
      : "There is no other photo."))
  byId("kinds").replaceChildren(...bars(tally(close, labelOf), close.length))
  byId("nearest").replaceChildren(...shown.map((other) => {
    const name = words.labels[labelOf[other]]
    const button = element("button", { title: pathOf(other), class: labelOf[other] === label ? "" : "other" }, picture(other), element("span", {}, name))
    button.onclick = () => choose(other)
    return element("li", {}, button)
  }))
  byId("neighbours").hidden = false
  byId("hint").hidden = true
}

/** How many of the nearest photos have which label, as rows with bars. */
function bars(counts, all) {
  const rows = counts.slice(0, LABELS_COUNTED).map(([label, number]) => [words.labels[label], number, `rgb(${toned(words.looks[label][0])})`])
  const rest = counts.slice(LABELS_COUNTED)
  if (rest.length) rows.push([counted(rest.length, "other label"), rest.reduce((sum, [, number]) => sum + number, 0), ""])
  return rows.map(([name, number, colour]) => {
    const bar = element("i")
    bar.style.width = `${(100 * number) / all}%`
    bar.style.background = colour
    return element("li", {}, element("span", { class: "name", title: name }, name), element("span", { class: "bar", "aria-hidden": "true" }, bar), element("b", {}, String(number)))
  })
}

// The controls

let going
byId("search").oninput = (event) => {
  clearTimeout(going)
  going = setTimeout(() => search(event.target.value), 60)
}
byId("search").onkeydown = (event) => {
  if (event.key === "Escape") {
    event.target.value = ""
    search("")
  } else if (event.key === "Enter" && event.target.value) {
    clearTimeout(going)
    search(event.target.value)
    const step = event.shiftKey ? found.length - 1 : 1
    if (found.length) choose(found[found.includes(map.chosen) ? (found.indexOf(map.chosen) + step) % found.length : 0])
  }
}
const acts = { all: () => showAll(true), none: () => showAll(false), closer: () => map.zoom(1.6), farther: () => map.zoom(1 / 1.6), whole: () => map.fit() }
for (const [id, act] of Object.entries(acts)) byId(id).onclick = act
byId("theme").onclick = () => setTheme(dark() ? "light" : "dark")
matchMedia("(prefers-color-scheme: dark)").onchange = () => setTheme(document.documentElement.dataset.theme)

for (const button of document.querySelectorAll("[data-only]")) {
  button.onclick = () => {
    for (const other of document.querySelectorAll("[data-only]")) other.ariaPressed = other === button
    for (const tile of document.querySelectorAll("[data-cause]")) tile.hidden = ![tile.dataset.cause, ""].includes(button.dataset.only)
  }
}

byId("curve").onpointermove = (event) => {
  const across = Math.min(1, Math.max(0, event.offsetX / event.currentTarget.clientWidth)), { length } = words.shares
  const number = Math.round(event.currentTarget.dataset.axis === "log" ? Math.max(2, length) ** across : 1 + across * (Math.max(2, length) - 1))
  const share = words.shares[Math.min(length, Math.max(1, number)) - 1]
  byId("reading").textContent = `${counted(Math.min(length, number), "component")}: ${(100 * share).toFixed(1)} %`
}
byId("curve").onpointerleave = () => { byId("reading").textContent = "" }

// On paper everything is unfolded, and the page is a light one.
let before
addEventListener("beforeprint", () => {
  before = document.documentElement.dataset.theme ?? ""
  for (const details of document.querySelectorAll("details")) details.open = true
  setTheme("light")
  map.paint()
})
addEventListener("afterprint", () => setTheme(before))

setTheme()
performance.mark("map painted")
