/* The processor time and the memory of a job, in words. Pure.

   A sample is { at, cpu, memory }: milliseconds since 1970, the busy cores since the sample before
   (null in the first sample of an attempt), bytes. Samples are in the order of their times. */

import { formatBytes, formatRoughly, MINUTE } from "./format.js";

const IDLE = 0.05; // cores; below it, a job counts as idle
const FRESH = 3 * MINUTE; // other machines send their samples once a minute

/** The samples of GET /jobs/ID/usage. */
export function readSamples({ samples }) {
  return samples.map(({ at, cpu, memory_bytes: memory }) => ({ at: Date.parse(at), cpu, memory }));
}

/** "0.97", "1.9", "12": how many cores are busy. */
export function formatCores(cores) {
  if (cores < 0.995) {
    return cores < 0.005 ? "0" : cores.toFixed(2);
  }
  return cores < 9.95 ? cores.toFixed(1) : String(Math.round(cores));
}

/** "1 core", "0.97 cores". */
function coresText(cores) {
  const text = formatCores(cores);
  return text === "1.0" ? "1 core" : `${text} cores`;
}

/** "CPU 0.97 cores · 1.2 GiB", for a tooltip. */
export function usageText({ cpu, memory }) {
  const parts = [cpu === null ? "" : `CPU ${coresText(cpu)}`, formatBytes(memory)];
  return parts.filter(Boolean).join(" · ");
}

/** What the samples say in all: the last values, the highest, and how many cores were busy on
    average. `cpu`, `mostCpu` and `meanCpu` are null if there is no such value. */
export function summarize(samples) {
  let [mostCpu, mostMemory, busy, time] = [null, 0, 0, 0];
  samples.forEach(({ at, cpu, memory }, index) => {
    mostMemory = Math.max(mostMemory, memory);
    if (cpu !== null && index > 0) {
      const took = at - samples[index - 1].at;
      mostCpu = Math.max(mostCpu ?? 0, cpu);
      busy += cpu * took;
      time += took;
    }
  });
  const { cpu = null, memory = 0 } = samples.at(-1) ?? {};
  return { cpu, memory, mostCpu, mostMemory, meanCpu: time > 0 ? busy / time : null };
}

/** The words beside the line of the processor, { value, more }: the last value and the peak, or the
    average if the job has ended. */
export function cpuWords({ cpu, mostCpu, meanCpu }, { isRunning }) {
  const shown = isRunning ? cpu : meanCpu;
  const peak = mostCpu === null ? "" : `peak ${formatCores(mostCpu)}`;
  const more = [isRunning ? "" : "average", peak];
  return { value: shown === null ? "–" : coresText(shown), more: more.filter(Boolean).join(", ") };
}

/** The same for the memory: the last value, or the peak if the job has ended. `limit`: the job's
    max_memory, or null. */
export function memoryWords({ memory, mostMemory }, { isRunning, limit }) {
  const peak = formatBytes(mostMemory);
  const more = [
    isRunning ? `peak ${peak}` : "peak",
    limit === null ? "" : `limit ${formatBytes(limit)}`,
  ];
  return { value: isRunning ? formatBytes(memory) : peak, more: more.filter(Boolean).join(", ") };
}

/** The same at one time: "14:03:22". */
export function wordsAt({ at, cpu, memory }) {
  const more = new Date(at).toTimeString().slice(0, 8);
  return {
    time: more,
    cpu: { value: cpu === null ? "–" : coresText(cpu), more },
    memory: { value: formatBytes(memory), more },
  };
}

/** For screen readers: "Processor: 0.97 cores, peak 1.9". */
export function lineLabel(name, { value, more }) {
  return `${name}: ${[value, more].filter(Boolean).join(", ")}`;
}

/** How many cores a job has kept busy in the last minute; null if that is not known. */
export function recentCores(samples, now) {
  const last = samples.at(-1);
  if (!last || now - last.at > FRESH) {
    return null;
  }
  const { length } = samples.filter(({ at }) => at > last.at - MINUTE);
  // The sample before them is where the first of their times begins.
  return summarize(samples.slice(-length - 1)).meanCpu;
}

/** "busy: 0.97 cores" or "idle", of a job that writes nothing; "" if it is not known. */
export function activityText(cores) {
  if (cores === null) {
    return "";
  }
  return cores < IDLE ? "idle" : `busy: ${coresText(cores)}`;
}

/** The text of the state pill for a job that has written nothing for a while. */
export function quietText(milliseconds, cores) {
  const parts = [`no output for ${formatRoughly(milliseconds)}`, activityText(cores)];
  return parts.filter(Boolean).join(", ");
}
