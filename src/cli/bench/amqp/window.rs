//! What was published and is not confirmed yet.

use std::collections::VecDeque;
use std::time::Instant;

/// The messages of one channel in confirm mode, by their delivery tags, with the times from which their confirms count.
#[derive(Debug)]
pub(super) struct Window {
    /// The delivery tag of the first one.
    front: u64,
    /// `None`: confirmed before those in front of it.
    due: VecDeque<Option<Instant>>,
    open: usize,
}

/// The server has confirmed what was not published, or was confirmed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotOpen;

impl Window {
    pub(super) fn new() -> Window {
        Window { front: 1, due: VecDeque::new(), open: 0 }
    }

    /// How many are not confirmed.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Another one was published.
    pub(super) fn push(&mut self, due: Instant) {
        self.due.push_back(Some(due));
        self.open += 1;
    }

    /// A confirm has come, of everything up to `tag` if `multiple`. `each` gets how many had been due at the same time, and
    /// that time. Gives how many there were.
    pub(super) fn confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        mut each: impl FnMut(Instant, u64),
    ) -> Result<u64, NotOpen> {
        let before = self.open;
        if multiple {
            // Tag zero is all that there are.
            let last = if tag == 0 { self.front + self.due.len() as u64 } else { tag + 1 };
            let count = last.saturating_sub(self.front) as usize;
            if tag != 0 && count > self.due.len() {
                return Err(NotOpen);
            }
            let mut same: Option<(Instant, u64)> = None;
            for due in self.due.drain(..count.min(self.due.len())).flatten() {
                self.open -= 1;
                same = match same {
                    Some((time, count)) if time == due => Some((time, count + 1)),
                    Some((time, count)) => {
                        each(time, count);
                        Some((due, 1))
                    }
                    None => Some((due, 1)),
                };
            }
            if let Some((time, count)) = same {
                each(time, count);
            }
            self.front = self.front.max(last);
        } else {
            let index = tag.checked_sub(self.front).ok_or(NotOpen)?;
            let place = usize::try_from(index).ok().and_then(|index| self.due.get_mut(index));
            let due = place.and_then(Option::take).ok_or(NotOpen)?;
            self.open -= 1;
            each(due, 1);
            while let Some(None) = self.due.front() {
                self.due.pop_front();
                self.front += 1;
            }
        }
        Ok((before - self.open) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn window(begin: Instant) -> Window {
        let mut window = Window::new();
        for milliseconds in [0, 0, 1, 1, 2, 3] {
            window.push(begin + Duration::from_millis(milliseconds));
        }
        window
    }

    fn confirm(window: &mut Window, tag: u64, multiple: bool) -> Result<Vec<u64>, NotOpen> {
        let mut counts = Vec::new();
        let all = window.confirm(tag, multiple, |_, count| counts.push(count))?;
        assert_eq!(all, counts.iter().sum::<u64>());
        Ok(counts)
    }

    #[test]
    fn confirms_of_many_give_the_times_they_were_due_at() {
        let begin = Instant::now();
        let mut window = window(begin);
        let mut seen = Vec::new();
        assert_eq!(window.confirm(3, true, |due, count| seen.push((due - begin, count))), Ok(3));
        assert_eq!(seen, [(Duration::ZERO, 2), (Duration::from_millis(1), 1)]);
        assert_eq!(confirm(&mut window, 5, true), Ok(vec![1, 1]));
        assert_eq!(window.open(), 1);
        assert_eq!(confirm(&mut window, 0, true), Ok(vec![1]));
        assert_eq!(window.open(), 0);
        window.push(begin);
        assert_eq!(confirm(&mut window, 7, false), Ok(vec![1]));
    }

    #[test]
    fn confirms_may_come_in_any_order() {
        let mut window = window(Instant::now());
        for tag in [2, 5, 1] {
            assert_eq!(confirm(&mut window, tag, false), Ok(vec![1]));
        }
        assert_eq!(window.open(), 3);
        assert_eq!(confirm(&mut window, 6, true), Ok(vec![2, 1]));
        assert_eq!(window.open(), 0);
        assert_eq!(confirm(&mut window, 6, true), Ok(vec![]));
    }

    #[test]
    fn what_is_not_open_cannot_be_confirmed() {
        let mut window = window(Instant::now());
        confirm(&mut window, 4, false).unwrap();
        for (tag, multiple) in [(0, false), (4, false), (7, false), (7, true), (u64::MAX - 1, true)]
        {
            assert_eq!(confirm(&mut window, tag, multiple), Err(NotOpen), "{tag} {multiple}");
        }
        assert_eq!(window.open(), 5);
    }
}
