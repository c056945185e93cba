//! Following answers: which server each session would be at, and how evenly that is.
//!
//! [`Following`] takes the notes of what a policy was asked, one after the other. It follows the answers that were given, or
//! asks another policy the same and follows its answers. The other policy sees the servers, the suspicion and the connect
//! times that were seen, and sessions by books of its own: the load that it *would* have made. A session lasts as long as it
//! did; that is an assumption. Both are measured alike, so their figures may be compared. Where the notes come from, a
//! recording or a running proxy, is left to the caller.

mod books;
mod evenness;
mod following;
mod servers;

pub use books::Books;
pub use evenness::{Samples, Spread, evenness};
pub use following::{Counts, Differing, Following};
pub use servers::{mirrored, request};
