// Transports named by value are part of a bundle of one file, instead of being loaded when they are needed.
import { connect } from "fanline";
import { longpoll, poll } from "fanline/poll";
import { sse } from "fanline/sse";

const client = connect("/v1/ws", { transports: ["websocket", sse, longpoll, poll] });
client.subscribe(["chat.>", "news.*"], (frame, live) => console.log(live ? "new" : "known", frame.topic, frame.data));
