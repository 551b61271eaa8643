// One connection for all tabs. The name stands for the user: tabs of other users do not share it.
import { connect } from "fanline/shared";

const client = connect<{ [topic: `ticker.${string}`]: { last: number } }>("/v1/ws", { name: "user 17" });
client.subscribe("ticker.*", ({ topic, data }) => console.log(topic, data.last));
