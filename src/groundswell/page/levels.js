// The five levels, weakest first.

export const LEVELS = [
  { id: "eventual", name: "eventual", says: "any replica answers" },
  { id: "read_your_writes", name: "read your writes", says: "what I did is there" },
  { id: "monotonic", name: "monotonic", says: "never back in time" },
  { id: "causal", name: "causal", says: "both, across people" },
  { id: "linearizable", name: "linearizable", says: "the truth, now" },
];
