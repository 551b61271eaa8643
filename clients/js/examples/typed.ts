// Topics with types: `data` is known by pattern.
import { connect, Unauthorized, type Frame } from "fanline";

interface Ticker {
  bid: number;
  ask: number;
}

interface Trade {
  price: number;
  size: number;
}

interface Topics {
  [topic: `ticker.${string}`]: Ticker;
  [topic: `trade.${string}`]: Trade;
}

async function token({ reason }: { reason: string }): Promise<string> {
  const answer = await fetch(`/session/token?because=${reason}`);
  if (answer.status === 403) throw new Unauthorized("logged out");
  return answer.text();
}

await using client = connect<Topics>(() => "/v1/ws", { token, hidden_every_ms: 5000, numbers: "exact" });
using spreads = client.subscribe("ticker.*", ({ topic, data }) => console.log(topic, data.ask - data.bid));
client.on("state", ({ state, reason }) => console.log(state, reason, spreads.state));

const leaving = new AbortController();
for await (const { data } of client.frames("trade.BTC-USD", { buffer: "latest", signal: leaving.signal })) {
  if (data.size > 100) leaving.abort();
}

const newest: Frame<Ticker> | undefined = client.latest("ticker.BTC-USD");
console.log(newest?.data.bid, client.isCurrent("ticker.BTC-USD"), (await client.closed).reason);
