//! Why a module is refused, in words that lead on.

use super::*;

#[test]
fn the_configuration_is_taken_or_refused_in_the_module_s_words() {
    // Refuses whatever is not two bytes long, with the text at 64.
    let text = guests::policy(Parts {
        configure: "(i32.store8 (i32.const 16) (i32.ne (local.get $params_len) (i32.const 2)))
            (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 5)) (i32.const 16)",
        ..Parts::default()
    });
    let bench = Bench::with(&text);
    assert!(bench.make(&spec()).is_ok());
    let error = bench.make(&ModuleSpec { config: "{\"zone\":1}".to_owned(), ..spec() }).err().unwrap();
    assert!(error.to_string().ends_with("x.wat: configure refused {\"zone\":1}: guest"), "{error}");
}

#[test]
fn a_module_that_wants_more_memory_than_it_may_have_is_told_by_which_key_and_flag() {
    let memory = r#"(memory (export "memory") 1000)"#;
    let bench = Bench::with(&guests::policy(Parts { memory, ..Parts::default() }));
    let error = bench.make(&spec()).err().unwrap().to_string();
    let says = "it wanted 63 MiB of memory, expected at most 16 MiB: raise \"memory\" of this policy, or link with a smaller stack";
    assert!(error.contains(says), "{error}");
    assert!(bench.make(&ModuleSpec { memory: 64 << 20, ..spec() }).is_ok());
}

#[test]
fn an_allocator_that_cannot_give_nothing_is_told_what_it_is_asked_for() {
    let cabi_realloc = "(if (i32.eqz (local.get $size)) (then (unreachable)))
        (call $bump (local.get $align) (local.get $size))";
    let text = guests::policy(Parts { cabi_realloc, ..Parts::default() });
    let named = text.replace("(func (export \"cabi_realloc\")", "(func $cabi_realloc (export \"cabi_realloc\")");
    let bench = Bench::with(&named);
    let error = bench.make(&spec()).err().unwrap().to_string();
    assert!(error.contains("cabi_realloc(0, 0, align, bytes)") && error.contains("also for 0 bytes"), "{error}");
}

/// The log keeps quiet while a module is tried on servers that do not exist, so the refusal has to tell it.
#[test]
fn what_a_refused_module_said_of_its_failure_stands_in_the_refusal() {
    let bench = Bench::with(&guests::policy(Parts {
        imports: r#"(import "goproxy:balance/host@1.0.0" "log" (func $log (param i32 i32 i32)))"#,
        fields: r#"(data (i32.const 512) "panicked at src/lib.rs:7")"#,
        pick: "(call $log (i32.const 0) (i32.const 512) (i32.const 24)) (unreachable)",
        ..Parts::default()
    }));
    let error = bench.make(&spec()).err().unwrap().to_string();
    assert!(error.ends_with("; it said: panicked at src/lib.rs:7"), "{error}");
}

#[test]
fn what_takes_longer_to_compile_than_its_policy_allows_is_refused_until_that_is_raised() {
    let code = format!("(func {})", "loop end ".repeat(10_000));
    let bench = Bench::with(&guests::policy(Parts { fields: &code, ..Parts::default() }));
    let tight = ModuleSpec { compile_budget: Duration::from_millis(100), ..spec() };
    let error = bench.make(&tight).err().unwrap().to_string();
    assert!(error.contains("x.wat: would take about 0.2 s to compile"), "{error}");
    assert!(bench.make(&spec()).is_ok());
}
