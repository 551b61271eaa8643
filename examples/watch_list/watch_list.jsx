// A watch list of one's own: rows are added and removed, kept in the browser, and struck out when they may be old.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { checkPattern } from "fanline";
import { FanlineProvider, useFanlineState, useTopic } from "fanline/react";

const SERVER = new URLSearchParams(location.search).get("server") ?? "http://127.0.0.1:8080";
const KEY = "watch_list";
const FIRST = ["quote.AAPL"];

const isTopic = (text) => typeof text === "string" && checkPattern(text) === null && !/[*>]/.test(text);

/** What the browser keeps may be of another program, or damaged. */
function kept() {
  try {
    return [...new Set(JSON.parse(localStorage.getItem(KEY)).filter(isTopic))];
  } catch {
    return FIRST;
  }
}

function keep(topics) {
  try {
    localStorage.setItem(KEY, JSON.stringify(topics));
  } catch {
    // The browser keeps nothing.
  }
}

function Row({ topic, remove }) {
  const bid = useTopic(topic, ({ data }) => data?.bid);
  const ask = useTopic(topic, ({ data }) => data?.ask);
  const isCurrent = useTopic(topic, (reading) => reading.isCurrent);
  const style = isCurrent ? {} : { opacity: 0.5, textDecoration: "line-through" };
  return (
    <tr data-topic={topic}>
      <th scope="row">{topic}</th>
      <td style={style}>{bid ?? "–"}</td>
      <td style={style}>{ask ?? "–"}</td>
      <td>
        <button aria-label={`Remove ${topic}`} onClick={remove}>×</button>
      </td>
    </tr>
  );
}

function Add({ add }) {
  const [topic, setTopic] = useState("");
  const problem = topic && (/[*>]/.test(topic) ? "expected one topic, found a wildcard" : checkPattern(topic));
  const submit = (event) => {
    event.preventDefault();
    if (!topic || problem) return;
    add(topic);
    setTopic("");
  };
  return (
    <form onSubmit={submit}>
      <input aria-label="Topic" placeholder="quote.AAPL" value={topic} onChange={(event) => setTopic(event.target.value)} />
      <button>Add</button> <span role="alert">{problem}</span>
    </form>
  );
}

function WatchList() {
  const state = useFanlineState();
  const [topics, setTopics] = useState(kept);
  useEffect(() => keep(topics), [topics]);
  const without = (topic) => topics.filter((other) => other !== topic);
  return (
    <>
      <table>
        <caption>Watch list: {state}</caption>
        <thead>
          <tr><th>topic</th><th>bid</th><th>ask</th><th /></tr>
        </thead>
        <tbody>
          {topics.map((topic) => <Row key={topic} topic={topic} remove={() => setTopics(without(topic))} />)}
        </tbody>
      </table>
      <Add add={(topic) => setTopics([...without(topic), topic])} />
    </>
  );
}

createRoot(document.getElementById("app")).render(
  <FanlineProvider url={`${SERVER}/v1/ws`}>
    <WatchList />
  </FanlineProvider>,
);
