// Keeps the page for when there is no network. Photos and answers are never kept.
const CACHE = "verger";
const SHELL = ["./", "icon.svg", "icon-180.png", "icon-192.png", "icon-512.png", "manifest.webmanifest"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const kept = SHELL.some((path) => new URL(path, self.registration.scope).href === event.request.url);
  if (event.request.method === "GET" && kept) event.respondWith(fresh(event.request));
});

// The network's page where there is a network, so that a new version shows at once; otherwise the one that was kept.
async function fresh(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch {
    return (await cache.match(request)) ?? Response.error();
  }
}
