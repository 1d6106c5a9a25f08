//! What something costs the processor, and what others cost it meanwhile.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Where Linux tells what all processors did since the machine was started.
const ALL: &str = "/proc/stat";

/// The time that the threads of this process have had on processors since it began, all together, in the kernel as well.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// How busy a machine is with others: who shares it measures them as well.
#[derive(Debug)]
pub(super) struct Others {
    begin: Instant,
    own: Duration,
    all: Option<Ticks>,
    cores: f64,
}

/// Time of all processors, in a unit of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    busy: f64,
    idle: f64,
}

impl Others {
    /// Begins to watch them. `cores`: how many processors there are.
    pub(super) fn watch(cores: u64) -> Others {
        Others {
            begin: Instant::now(),
            own: cpu_time(),
            all: all_processors(),
            cores: cores as f64,
        }
    }

    /// How much of all processors others have used since then, from 0 to 1; `None`: the system does not tell.
    pub(super) fn share(&self) -> Option<f64> {
        let (before, now) = (self.all?, all_processors()?);
        let (busy, idle) = (now.busy - before.busy, now.idle - before.idle);
        let time = self.begin.elapsed().as_secs_f64() * self.cores;
        let own = (cpu_time() - self.own).as_secs_f64();
        (busy + idle > 0.0 && time > 0.0)
            .then(|| (busy / (busy + idle) - own / time).clamp(0.0, 1.0))
    }
}

fn all_processors() -> Option<Ticks> {
    parse(&std::fs::read_to_string(ALL).ok()?)
}

/// The first line: `cpu`, then user, nice, system, idle, waiting for a disk, interrupts, soft interrupts, stolen by other machines.
fn parse(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let &[user, nice, system, idle, waiting, interrupts, soft, stolen, ..] = &*ticks else {
        return None;
    };
    let busy = user + nice + system + interrupts + soft + stolen;
    Some(Ticks { busy, idle: idle + waiting })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_of_all_processors_is_understood() {
        let text = "cpu  100 20 3 500 40 5 6 7 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(parse(text), Some(Ticks { busy: 141.0, idle: 540.0 }));
        assert_eq!(parse("cpu  100 20\n"), None);
        assert_eq!(parse("intr 5\n"), None);
        assert_eq!(parse(""), None);
    }
}
