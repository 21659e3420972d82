// Puts the page together.
{
  const data = JSON.parse(byId("data").textContent);
  const rows = new Map(data.rows.map((row, n) => [row[0], n]));
  const runs = table(data, (row) => times.pick(row));
  const times = timeline(data, (slug) => runs.find(slug));
  const find = (slug) => { runs.find(slug); if (rows.has(slug)) times.pick(rows.get(slug)); };
  document.querySelectorAll("button[data-find]").forEach((button) => button.addEventListener("click", () => find(button.dataset.find)));
  document.querySelectorAll("#graph svg [data-slug]").forEach((box) => {
    box.setAttribute("tabindex", "0"); box.setAttribute("role", "button"); box.setAttribute("aria-label", `${box.dataset.slug}: ${box.dataset.state || "a node"}, find it in the table`);
    box.addEventListener("click", () => find(box.dataset.slug));
    box.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); find(box.dataset.slug); } });
  });
}
