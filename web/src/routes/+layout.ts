// The console runs in the browser alone: berthd serves its files and nothing of it.
export const ssr = false;
export const prerender = false;
