//! The engine through its public interface, on a real disk.

mod crash;
mod damage;
mod durability;
mod faulty;
mod model;
mod queues;
mod support;
