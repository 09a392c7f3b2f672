const votes = await (await fetch("/api/votes")).json();
for (const [id, value] of Object.entries(votes)) {
  document.getElementById(id).textContent = value;
}
