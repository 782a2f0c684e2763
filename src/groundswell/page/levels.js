// The five levels, weakest first. Some put the session's own writes on top of a state that lacks them.

export const LEVELS = [
  { id: "eventual", name: "eventual", says: "any replica answers" },
  { id: "read_your_writes", name: "read your writes", says: "what I did is there", overlays: true },
  { id: "monotonic", name: "monotonic", says: "never back in time" },
  { id: "causal", name: "causal", says: "both, across people", overlays: true },
  { id: "linearizable", name: "linearizable", says: "the truth, now" },
];
