// A counter, a form and static files: enough to see that an app with npm dependencies runs.
import { fileURLToPath } from "node:url";
import express from "express";

const app = express();
const votes = { sail: 0, row: 0 };

app.disable("x-powered-by");
app.use(express.urlencoded({ extended: false, limit: "10kb" }));
app.use(express.static(fileURLToPath(new URL("public", import.meta.url))));

app.get("/api/votes", (_request, response) => {
  response.json({ ...votes, node: process.version, greeting: process.env.GREETING ?? "Hello from Express" });
});

app.post("/api/votes", (request, response) => {
  const choice = request.body.choice;
  if (!Object.hasOwn(votes, choice)) {
    response.status(400).json({ error: "choice must be sail or row" });
    return;
  }
  votes[choice] += 1;
  response.redirect(303, "/");
});

app.get("/healthz", (_request, response) => response.json({ up_s: Math.round(process.uptime()) }));

const server = app.listen(process.env.PORT ?? 5000);
// Longer than the router keeps an idle connection.
server.keepAliveTimeout = 75_000;

process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
