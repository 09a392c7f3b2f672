//! What a deployment does next.
