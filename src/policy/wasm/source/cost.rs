//! What a function would cost to compile, told without compiling it.
//!
//! Compilers take more than linear time for some shapes of code, and one that is at work cannot be stopped. The
//! terms below were fitted to measurements of the engine's compiler on functions built to hurt it; a unit
//! is about a microsecond of a machine of 2025. They are meant as a bound, not as a forecast: code
//! as compilers write it costs about half of what they say.

use wasmparser::{FunctionBody, Operator};

/// Every function, however small: its entry in the tables, its trampoline, its prologue.
const FUNCTION: u64 = 33;

/// A call through a table: some twenty instructions, and blocks of its own.
const CALL_INDIRECT: u64 = 42;

/// A call.
const CALL: u64 = 7;

/// A loop by itself.
const LOOP: u64 = 20;

/// Looking for loops costs the square of their nesting for each, divided by this.
const NESTING_DIVISOR: u64 = 600;

/// Each variable at each loop, in hundredths: all that are alive have to be carried through it.
const VARIABLE_AT_LOOP: u64 = 150;

/// Each variable at each other place where ways meet, in hundredths.
const VARIABLE_AT_JOIN: u64 = 16;

/// Units that compiling this function costs.
///
/// # Errors
///
/// The body is malformed.
pub(super) fn cost(body: &FunctionBody<'_>) -> wasmparser::Result<u64> {
    let mut declared = 0_u64;
    for local in body.get_locals_reader()? {
        declared += u64::from(local?.0);
    }
    let mut shape = Shape::default();
    for operator in body.get_operators_reader()? {
        shape.visit(&operator?);
    }
    let variables = declared.max(shape.variables);
    let bytes = body.range().len() as u64;
    let nesting = shape.loop_depth_max * shape.loop_depth_max / NESTING_DIVISOR;
    let carried = variables.saturating_mul(VARIABLE_AT_LOOP * shape.loops + VARIABLE_AT_JOIN * shape.joins) / 100;
    let plain = FUNCTION + bytes + CALL_INDIRECT * shape.indirect_calls + CALL * shape.calls;
    Ok(plain.saturating_add(shape.loops * (LOOP + nesting)).saturating_add(carried))
}

#[derive(Default)]
struct Shape {
    /// One more than the largest index that is used: parameters are variables, too.
    variables: u64,
    loops: u64,
    joins: u64,
    calls: u64,
    indirect_calls: u64,
    /// For each block that is open, whether it is a loop.
    open: Vec<bool>,
    loop_depth: u64,
    loop_depth_max: u64,
}

impl Shape {
    fn visit(&mut self, operator: &Operator<'_>) {
        match operator {
            Operator::LocalGet { local_index }
            | Operator::LocalSet { local_index }
            | Operator::LocalTee { local_index } => {
                self.variables = self.variables.max(u64::from(*local_index) + 1);
            }
            Operator::Loop { .. } => {
                self.loops += 1;
                self.loop_depth += 1;
                self.loop_depth_max = self.loop_depth_max.max(self.loop_depth);
                self.open.push(true);
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } | Operator::Try { .. } => {
                self.joins += 1;
                self.open.push(false);
            }
            Operator::End => self.loop_depth -= u64::from(self.open.pop().unwrap_or(false)),
            Operator::Call { .. } | Operator::ReturnCall { .. } => self.calls += 1,
            Operator::CallIndirect { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::CallRef { .. }
            | Operator::ReturnCallRef { .. } => self.indirect_calls += 1,
            _ => {}
        }
    }
}
