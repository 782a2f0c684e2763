// The five levels, weakest first. Some promise the session's own writes.

export const LEVELS = [
  { id: "eventual", name: "eventual", says: "any replica answers" },
  { id: "read_your_writes", name: "read your writes", says: "what I did is there", own: true },
  { id: "monotonic", name: "monotonic", says: "never back in time" },
  { id: "causal", name: "causal", says: "both, across people", own: true },
  { id: "linearizable", name: "linearizable", says: "the truth, now", own: true },
];
