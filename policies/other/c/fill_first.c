// fill_first: the first server gets clients until it has as many sessions as it has room for, then the second, and so
// on; when all are full, the one with the fewest sessions for its room.
//
// For servers that cost money while they run: the last ones in the list stay empty and can be taken away. How many
// sessions a server has room for is its label `room`, 100 when it has none: { "labels": { "room": "250" } }.
//
// A complete policy in C with no library at all; `build` beside this file has the one command that compiles it.
// `../../round_robin.wat` explains how the types of `wit/balance.wit` look to a module: the structs below are that.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u32 bool32;

#define ROOM_DEFAULT 100
#define PAGE_SIZE 65536

// A name is exported, or looked for in the proxy, exactly as `wit/balance.wit` spells it.
#define EXPORT(name) __attribute__((export_name("goproxy:balance/policy@1.0.0#" name)))
#define IMPORT(name) __attribute__((import_module("goproxy:balance/host@1.0.0"), import_name(name)))

typedef struct { const char *text; u32 length; } string;
typedef struct { string key, value; } label;

typedef struct {
    u32 id;
    string name, address;
    u32 weight;
    u8 available;
    const label *labels;
    u32 labels_count;
} server;

typedef struct { string name, version; } description;
typedef struct { u8 is_error; string error; } configured;
typedef struct { u8 is_some; u32 server; } picked;
typedef struct { const u32 *counts; u32 length; } counts;

_Static_assert(sizeof(server) == 36 && sizeof(label) == 16, "the sizes that the interface gives them");

// A result of more than one value is written to where the last parameter points.
IMPORT("all-active-connections") void all_active_connections(counts *result);
IMPORT("already-tried") bool32 already_tried(u32 server);

// --- Memory: what is known of the servers, and behind it room for what the proxy passes in. ---

typedef struct { u32 id, room; u8 available; } entry;

extern u8 __heap_base;                   // set by the linker: the first byte that nothing else uses
static entry *const entries = (entry *)&__heap_base;
static u32 entries_count;
static u32 heap;                         // how far the room is taken; 0 before the first call

static u32 heap_start(void) { return (u32)(entries + entries_count); }

// Gives the proxy room, in `pick` too, where it brings the counts. Everything is taken in during the call, so
// nothing is kept account of: each function below sets `heap` back.
__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, u32 old_size, u32 align, u32 size) {
    (void)old, (void)old_size;
    u32 start = ((heap ? heap : heap_start()) + align - 1) & -align;
    u32 have = __builtin_wasm_memory_size(0) * PAGE_SIZE;
    heap = start + size;
    if (heap > have && __builtin_wasm_memory_grow(0, (heap - have + PAGE_SIZE - 1) / PAGE_SIZE) == (u32)-1)
        __builtin_trap();                // the proxy survives that: its fallback serves
    return (void *)start;
}

// --- The interface. ---

EXPORT("describe") description *describe(void) {
    static description me = { { "fill_first", 10 }, { "1.0.0", 5 } };
    return &me;
}

// No parameters: what is to be said of a server stands at the server.
EXPORT("configure") configured *configure(const char *group, u32 group_length, const char *params, u32 params_length) {
    (void)group, (void)group_length, (void)params, (void)params_length;
    static configured ok;
    heap = 0;
    return &ok;
}

static u32 room_of(const server *server) {
    for (u32 i = 0; i < server->labels_count; i++) {
        string key = server->labels[i].key, value = server->labels[i].value;
        if (key.length != 4 || key.text[0] != 'r' || key.text[1] != 'o' || key.text[2] != 'o' || key.text[3] != 'm')
            continue;
        u32 room = 0;
        for (u32 j = 0; j < value.length && j < 7 && value.text[j] >= '0' && value.text[j] <= '9'; j++)
            room = room * 10 + (value.text[j] - '0');
        if (room) return room;
    }
    return ROOM_DEFAULT;
}

// The list lies behind the entries of the list before, so a longer one is written over while it is read. That is safe:
// an entry takes 12 bytes and a server 36, so only servers that have been read are lost; their texts lie behind them.
EXPORT("set-servers") void set_servers(const server *servers, u32 length) {
    for (u32 i = 0; i < length; i++) {
        entry entry = { servers[i].id, room_of(&servers[i]), servers[i].available };
        entries[i] = entry;
    }
    entries_count = length;
    heap = 0;
}

// The client's address does not matter here: family 0 is IPv4, in the low 32 bits of ip_high; 1 is IPv6, in both.
EXPORT("pick") picked *pick(u32 family, u64 ip_high, u64 ip_low, u32 client_port, u32 listener_port, u32 attempt) {
    (void)family, (void)ip_high, (void)ip_low, (void)client_port, (void)listener_port;
    static picked answer;
    counts sessions;
    u64 best_sessions = 0, best_room = 0;

    heap = 0;
    all_active_connections(&sessions);   // one question for all, in the order of the list
    answer.is_some = 0;
    for (u32 i = 0; i < entries_count && i < sessions.length; i++) {
        const entry *it = &entries[i];
        if (!it->available) continue;
        u64 count = sessions.counts[i];
        u8 has_room = count < it->room;
        // Sessions by room, compared without a division.
        if (!has_room && answer.is_some && count * best_room >= best_sessions * it->room) continue;
        if (attempt && already_tried(it->id)) continue;
        answer.is_some = 1, answer.server = it->id;
        if (has_room) break;             // nobody behind it matters
        best_sessions = count, best_room = it->room;
    }
    heap = 0;
    return &answer;
}
