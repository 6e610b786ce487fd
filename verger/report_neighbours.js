// The nearest neighbours of a photo, by the components that the page carries: one byte each.
"use strict"

class Neighbours {
  /** `components`: int8, so many for each photo; `scales`: what one unit of each component is worth. */
  constructor(components, scales) {
    Object.assign(this, { components, width: scales.length, weights: scales.map((scale) => scale * scale) })
  }

  /** Squared distances of all photos from one. */
  distances(photo) {
    const { components, width, weights } = this, here = components.subarray(photo * width, (photo + 1) * width)
    const squares = new Float32Array(width ? components.length / width : 0)
    for (let i = 0, at = 0; i < squares.length; i++) {
      let sum = 0
      for (let j = 0; j < width; j++, at++) {
        const apart = components[at] - here[j]
        sum += weights[j] * apart * apart
      }
      squares[i] = sum
    }
    return squares
  }
}

/** The `most` candidates with the smallest distances, without `self`, nearest first. */
function nearest(distances, candidates, self, most) {
  const found = []
  for (const photo of candidates) {
    if (photo === self || (found.length === most && distances[photo] >= distances[found[most - 1]])) continue
    let at = found.length
    while (at > 0 && distances[found[at - 1]] > distances[photo]) at--
    found.splice(at, 0, photo)
    if (found.length > most) found.pop()
  }
  return found
}

/** [place of a label, how many of these photos have it], the most frequent first. */
function tally(photos, labelOf) {
  const counts = new Map()
  for (const photo of photos) counts.set(labelOf[photo], (counts.get(labelOf[photo]) ?? 0) + 1)
  return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0])
}
