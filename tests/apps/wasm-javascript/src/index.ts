// A small Wasm app that the push builds: `GET /` greets with `GREETING`, `POST /` sends back what it
// gets.
import { router } from "./router";

interface Env {
  GREETING?: string;
}

const app = router<Env>();

app.on("GET", "/", (request, env) => new Response(`${env.GREETING ?? "Hello"} from JavaScript\n`));
app.on("POST", "/", async (request) => new Response(await request.text()));

export default app;
