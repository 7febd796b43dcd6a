// The npm package `openai`, unmodified, trains at `ftclient serve`:
//
//     ftclient serve &
//     cd examples/node && npm install
//     OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none npm start
//
// The base URL is all that is changed.
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const ENDED = ["succeeded", "failed", "cancelled"];
const client = new OpenAI();

const file = await client.files.create({
  file: fs.createReadStream(new URL("../data/support.jsonl", import.meta.url)),
  purpose: "fine-tune",
});
let job = await client.fineTuning.jobs.create({
  model: process.env.MODEL ?? "smollm2-135m",
  training_file: file.id,
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 2, batch_size: 4 } } },
  seed: 1,
});

const seen = new Set();
let ended = false;
while (!ended) {
  job = await client.fineTuning.jobs.retrieve(job.id);
  ended = ENDED.includes(job.status); // asked before the events, so that no late one is missed
  const fresh = [];
  for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 10 })) {
    if (seen.has(event.id)) break; // pages come newest first
    seen.add(event.id);
    fresh.push(event.message);
  }
  for (const message of fresh.reverse()) console.log(message);
  if (!ended) await sleep(500);
}
if (job.status !== "succeeded") throw new Error(`The job ended ${job.status}: ${job.error?.message}`);

for await (const checkpoint of client.fineTuning.jobs.checkpoints.list(job.id)) {
  console.log("Checkpoint after step", checkpoint.step_number, checkpoint.fine_tuned_model_checkpoint);
}
const result = await client.files.content(job.result_files[0]);
console.log(Buffer.from(await result.text(), "base64").toString().split("\n")[0]);

const messages = [{ role: "user", content: "The lid of my kettle no longer closes." }];
const options = { model: job.fine_tuned_model, messages, temperature: 0, max_tokens: 40 };
const whole = await client.chat.completions.create(options);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...options, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
console.log(`${job.fine_tuned_model} answers: ${streamed}`);
if (streamed !== whole.choices[0].message.content) throw new Error("Stream and whole answer differ.");
