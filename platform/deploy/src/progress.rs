//! What a deployment tells those who wait for it: its states and lines of output.
//!
//! Kept in memory for as long as someone may ask; the durable truth is the deployment's row.
//! Bounded: the oldest lines and the oldest finished deployments go first. A follower that is too
//! slow loses lines, never the end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use berth_model::{DeploymentId, DeploymentState};
use tokio::sync::watch;

/// Lines that one deployment keeps.
const LINES_MAX: usize = 2000;
/// Deployments that are kept.
const DEPLOYMENTS_MAX: usize = 256;

/// One thing that a deployment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It came to this state.
    State(DeploymentState),
    /// A line of the push output, with its prefix.
    Line(String),
    /// It came to a final state; the error says why it failed. Nothing follows.
    Ended {
        /// Which state.
        state: DeploymentState,
        /// Why, for people.
        error: Option<String>,
    },
}

#[derive(Debug, Default)]
struct Story {
    /// Number of the first entry of `told`.
    first: u64,
    told: VecDeque<Progress>,
    ended: bool,
}

type Track = watch::Sender<Story>;

/// The progress of all deployments of late.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<VecDeque<(DeploymentId, Arc<Track>)>>);

impl Board {
    fn track(&self, deployment: DeploymentId) -> Arc<Track> {
        let mut tracks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, track)) = tracks.iter().find(|(id, _)| *id == deployment) {
            return Arc::clone(track);
        }
        let track = Arc::new(watch::Sender::new(Story::default()));
        tracks.push_back((deployment, Arc::clone(&track)));
        if tracks.len() > DEPLOYMENTS_MAX {
            let finished = tracks.iter().position(|(_, track)| track.borrow().ended);
            tracks.remove(finished.unwrap_or(0));
        }
        track
    }

    pub(crate) fn tell(&self, deployment: DeploymentId, progress: Progress) {
        self.track(deployment).send_modify(|story| {
            if story.ended {
                return;
            }
            story.ended = matches!(progress, Progress::Ended { .. });
            story.told.push_back(progress);
            if story.told.len() > LINES_MAX {
                story.told.pop_front();
                story.first += 1;
            }
        });
    }

    pub(crate) fn heading(&self, deployment: DeploymentId, text: &str) {
        self.tell(deployment, Progress::Line(format!("-----> {text}")));
    }

    pub(crate) fn detail(&self, deployment: DeploymentId, text: &str) {
        self.tell(deployment, Progress::Line(format!("       {text}")));
    }

    pub(crate) fn error(&self, deployment: DeploymentId, text: &str) {
        self.tell(deployment, Progress::Line(format!(" !     {text}")));
    }

    pub(crate) fn follow(&self, deployment: DeploymentId) -> Follower {
        Follower { story: self.track(deployment).subscribe(), next: 0 }
    }
}

/// Hears what a deployment tells, from its beginning.
#[derive(Debug)]
pub struct Follower {
    story: watch::Receiver<Story>,
    next: u64,
}

impl Follower {
    /// The next thing; nothing after [`Progress::Ended`], or when the deployment was forgotten.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            {
                let story = self.story.borrow_and_update();
                self.next = self.next.max(story.first);
                let index = usize::try_from(self.next - story.first).unwrap_or(usize::MAX);
                if let Some(progress) = story.told.get(index) {
                    self.next += 1;
                    return Some(progress.clone());
                }
                if story.ended {
                    return None;
                }
            }
            self.story.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(n: u8) -> DeploymentId {
        DeploymentId::new(0, [n; 10])
    }

    #[tokio::test]
    async fn a_late_follower_hears_everything_and_the_end() {
        let board = Board::default();
        let id = deployment(1);
        board.heading(id, "Starting web.1");
        let ended = Progress::Ended { state: DeploymentState::Done, error: None };
        board.tell(id, ended.clone());
        board.heading(id, "never told");
        let mut follower = board.follow(id);
        assert_eq!(follower.next().await, Some(Progress::Line("-----> Starting web.1".into())));
        assert_eq!(follower.next().await, Some(ended));
        assert_eq!(follower.next().await, None);
    }

    #[tokio::test]
    async fn a_follower_waits_for_what_comes() {
        let board = Arc::new(Board::default());
        let id = deployment(1);
        let mut follower = board.follow(id);
        let (waiting, teller) = (tokio::spawn(async move { follower.next().await }), board);
        teller.tell(id, Progress::State(DeploymentState::Checking));
        let heard = waiting.await.unwrap();
        assert_eq!(heard, Some(Progress::State(DeploymentState::Checking)));
    }

    #[tokio::test]
    async fn lines_and_deployments_are_bounded_and_a_running_one_is_kept() {
        let board = Board::default();
        let id = deployment(1);
        let mut follower = board.follow(id);
        for n in 0..=LINES_MAX {
            board.detail(id, &n.to_string());
        }
        assert_eq!(follower.next().await, Some(Progress::Line("       1".into())));
        for n in 0..2 * DEPLOYMENTS_MAX as u64 {
            let state = DeploymentState::Done;
            board.tell(DeploymentId::new(n + 1, [9; 10]), Progress::Ended { state, error: None });
        }
        let tracks = board.0.lock().unwrap();
        assert_eq!(tracks.len(), DEPLOYMENTS_MAX);
        assert!(tracks.iter().any(|(known, _)| *known == id));
    }
}
