//! What the engine is put through on a disk that is worse than any real one.

mod bit_rot;
mod lies;
mod power_cuts;
mod runs;
