// A watch list in React: each row renders at most once per animation frame.
import { FanlineProvider, useFanlineState, useFrames, useTopic, useTopics } from "fanline/react";

function Price({ topic }: { topic: string }) {
  const bid = useTopic(topic, ({ data }) => data?.bid as number | undefined);
  const isCurrent = useTopic(topic, (reading) => reading.isCurrent);
  return <td className={isCurrent ? "" : "old"}>{bid ?? "–"}</td>;
}

function Rows() {
  const topics = useTopics("ticker.*");
  return topics.map(({ topic }) => (
    <tr key={topic}>
      <th>{topic}</th>
      <Price topic={topic} />
    </tr>
  ));
}

function Connection() {
  useFrames("trade.>", (frame) => console.log(frame.topic, frame.data));
  return <caption>{useFanlineState()}</caption>;
}

export default function WatchList() {
  return (
    <FanlineProvider url="/v1/ws" options={{ every_ms: 100 }}>
      <table>
        <Connection />
        <tbody>
          <Rows />
        </tbody>
      </table>
    </FanlineProvider>
  );
}
