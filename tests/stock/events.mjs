// Reads so many frames of a stream of events with `fetch`, and resumes it by `Last-Event-ID`; prints the data.

const [url, count] = [process.argv[2], Number(process.argv[3])];
const frames = [];
let lastId;
while (frames.length < count) {
  const headers = { accept: "text/event-stream", ...(lastId && { "last-event-id": lastId }) };
  const answer = await fetch(url, { headers });
  if (answer.status !== 200) throw new Error(`expected 200, found ${answer.status}`);
  let pending = "";
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    const events = (pending + part).split("\n\n");
    pending = events.pop();
    for (const event of events) {
      const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s)));
      lastId = fields.id ?? lastId;
      if (!fields.event && fields.data) frames.push(fields.data);
    }
    if (frames.length >= count) break;
  }
}
console.log(frames.slice(0, count).join("\n"));
