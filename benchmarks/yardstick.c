/* A plain C interpreter of the whole language: what `benchmarks/speed.py` measures the machine beside.
 *
 * Build: cc -O3 -shared -fPIC -o yardstick.so yardstick.c
 *
 * It is meant as the interpreter a C programmer would write from the language's page: one pass over a program checks
 * its grammar and notes where its jumps go, a `switch` then runs it. No threads, no SIMD, no compiler extensions, no
 * allocation per program. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    STACK_ROOM = 64,
    CONTROL_ROOM = 64,
    STEPS = 1024,
    BLOCK_DEPTH = 16,
    DIRECTIVES = 8,
    CASES = 16,
    CASE_VALUES = 8,
};

#define LARGEST INT64_C(2147483647)

enum token {
    PAD, BOS, END,
    CASE, TO, DO, USE, AVOID, WITHIN, EXACTLY,
    COMMA,
    OPEN, CLOSE,
    D0, D1, D2, D3, D4, D5, D6, D7, D8, D9,
    ADD, SUB, MUL, DIV, MOD, NEG, ABS, MIN, MAX, INC, DEC,
    EQ, NE, LT, LE, GT, GE,
    AND, OR, NOT, XOR,
    DUP, DROP, SWAP, OVER, ROT, PICK,
    SET_A, GET_A, SET_B, GET_B,
    IF, ELSE, FI, TIMES, NEXT, INDEX, BEGIN, UNTIL,
    DEF, RET, CALL,
    TOKENS,
};

enum verdict {
    TRUE, FALSE, SYNTAX, UNTERMINATED, DIRECTIVE, STACK_UNDERFLOW, STACK_OVERFLOW, VALUE_OVERFLOW, DIVISION_BY_ZERO,
    CONTROL_OVERFLOW, STEP_LIMIT,
};

/* What the grammar has to do at a token of a body. Most tokens mean nothing to it. */
enum role { PLAIN, FORBIDDEN, THOUGHT, BLOCK };

static const uint8_t ROLE[TOKENS] = {
    [PAD] = FORBIDDEN, [BOS] = FORBIDDEN, [END] = BLOCK,
    [CASE] = FORBIDDEN, [TO] = FORBIDDEN, [DO] = FORBIDDEN, [USE] = FORBIDDEN, [AVOID] = FORBIDDEN,
    [WITHIN] = FORBIDDEN, [EXACTLY] = FORBIDDEN, [CLOSE] = FORBIDDEN,
    [OPEN] = THOUGHT,
    [IF] = BLOCK, [ELSE] = BLOCK, [FI] = BLOCK, [TIMES] = BLOCK, [NEXT] = BLOCK, [INDEX] = BLOCK, [BEGIN] = BLOCK,
    [UNTIL] = BLOCK, [DEF] = BLOCK, [RET] = BLOCK, [CALL] = BLOCK,
};

struct test_case {
    int inputs, outputs;
    int64_t input[CASE_VALUES], output[CASE_VALUES];
};

struct header {
    int cases;
    int directives;
    uint64_t use;       /* sets of tokens: see `bit` */
    uint64_t avoid;
    int64_t least, most; /* what `within` and `exactly` leave for the size of the body */
    struct test_case test[CASES];
};

struct frame {
    int64_t turns; /* of a `times`, how many are done, and how many there are to be */
    int64_t limit;
    int64_t back;  /* of a `call`, the position behind it */
};

/* A set of tokens that may stand in a body, ids 10 to 64, as the bits of one word. */
static inline uint64_t bit(int token) { return UINT64_C(1) << (token - COMMA); }

static inline bool is_digit(int token) { return token >= D0 && token <= D9; }

/* ---------------------------------------------------------------------------------------------- the header */

/* Reads `DIGIT {DIGIT} ["neg"]` and moves the position behind it. */
static bool read_integer(const uint8_t *tokens, int64_t length, int64_t *position, int64_t *value)
{
    int64_t at = *position, magnitude = 0;
    if (at >= length || !is_digit(tokens[at])) return false;
    for (; at < length && is_digit(tokens[at]); at++) {
        magnitude = 10 * magnitude + (tokens[at] - D0);
        if (magnitude > LARGEST) return false;
    }
    if (at < length && tokens[at] == NEG) {
        magnitude = -magnitude;
        at++;
    }
    *position = at;
    *value = magnitude;
    return true;
}

/* Reads `[INT {"," INT}]`; gives the count, or -1 for what is none. */
static int read_integers(const uint8_t *tokens, int64_t length, int64_t *position, int64_t *values)
{
    int count = 0;
    if (*position >= length || !is_digit(tokens[*position])) return 0;
    for (;;) {
        if (count == CASE_VALUES || !read_integer(tokens, length, position, &values[count])) return -1;
        count++;
        if (*position >= length || tokens[*position] != COMMA) return count;
        ++*position;
    }
}

static bool read_directive(const uint8_t *tokens, int64_t length, int64_t *position, struct header *header)
{
    int directive = tokens[(*position)++];
    if (header->directives++ == DIRECTIVES || *position >= length) return false;
    if (directive == USE || directive == AVOID) {
        int token = tokens[(*position)++];
        if (token < COMMA || token == OPEN || token == CLOSE) return false;
        if (directive == USE) header->use |= bit(token);
        else header->avoid |= bit(token);
        return true;
    }
    int64_t size;
    if (!read_integer(tokens, length, position, &size) || size < 0) return false;
    if (size < header->most) header->most = size;
    if (directive == EXACTLY && size > header->least) header->least = size;
    return true;
}

/* Reads a header up to and with its `do`. */
static bool read_header(const uint8_t *tokens, int64_t length, int64_t *position, struct header *header)
{
    while (*position < length && tokens[*position] >= USE && tokens[*position] <= EXACTLY)
        if (!read_directive(tokens, length, position, header)) return false;
    while (*position < length && tokens[*position] == CASE) {
        if (header->cases == CASES) return false;
        struct test_case *test = &header->test[header->cases++];
        ++*position;
        test->inputs = read_integers(tokens, length, position, test->input);
        if (test->inputs < 0 || *position >= length || tokens[*position] != TO) return false;
        ++*position;
        test->outputs = read_integers(tokens, length, position, test->output);
        if (test->outputs < 0) return false;
    }
    if (*position >= length || tokens[*position] != DO) return false;
    ++*position;
    return true;
}

/* ---------------------------------------------------------------------------------------------- the body */

/* Checks a body up to its `end` and fills `jump`, for every token that may go elsewhere, with the position it goes
 * to. Gives false where the body departs from the grammar, or where the row ends before the body does. */
static bool check_body(const uint8_t *tokens, int64_t length, int64_t position, int64_t *jump, uint64_t *present,
                       int64_t *size)
{
    int64_t opened[BLOCK_DEPTH]; /* the positions of what opened the blocks around here, `else` for its `if` */
    int depth = 0, loops = 0;    /* loops: how many of them are `times` */
    int64_t function = -1;
    int64_t start = position, thoughts = 0; /* thoughts: tokens inside thoughts, parentheses included */
    uint64_t seen = 0;

    for (; position < length; position++) {
        int token = tokens[position];
        int role = ROLE[token];
        if (role == PLAIN) {
            seen |= bit(token);
            continue;
        }
        if (role == FORBIDDEN) return false;
        if (role == THOUGHT) {
            int64_t opening = position++;
            while (position < length && tokens[position] >= COMMA && tokens[position] != OPEN
                   && tokens[position] != CLOSE)
                position++;
            if (position >= length || tokens[position] != CLOSE) return false;
            jump[opening] = position + 1;
            thoughts += position + 1 - opening;
            continue;
        }
        if (token == END) {
            *present = seen;
            *size = position - start - thoughts;
            return depth == 0;
        }
        seen |= bit(token);
        int64_t opening = depth > 0 ? opened[depth - 1] : -1;
        int opener = depth > 0 ? tokens[opening] : END;
        switch (token) {
        case DEF:
            if (depth > 0 || function >= 0) return false;
            function = position;
            opened[depth++] = position;
            break;
        case IF:
        case BEGIN:
        case TIMES:
            if (depth == BLOCK_DEPTH) return false;
            loops += token == TIMES;
            opened[depth++] = position;
            break;
        case ELSE:
            if (opener != IF) return false;
            jump[opening] = position + 1;
            opened[depth - 1] = position;
            break;
        case FI:
            if (opener != IF && opener != ELSE) return false;
            jump[opening] = position + 1;
            depth--;
            break;
        case NEXT:
            if (opener != TIMES) return false;
            jump[opening] = position + 1;
            jump[position] = opening + 1;
            loops--;
            depth--;
            break;
        case UNTIL:
            if (opener != BEGIN) return false;
            jump[position] = opening + 1;
            depth--;
            break;
        case RET:
            if (opener != DEF) return false;
            jump[opening] = position + 1;
            depth--;
            break;
        case CALL:
            if (function < 0) return false;
            jump[position] = function + 1;
            break;
        case INDEX:
            /* `def` stands outside every block, so a `times` around here is one of the same function. */
            if (loops == 0) return false;
            break;
        }
    }
    return false;
}

/* Runs a checked body on a stack that holds `*depth` inputs. TRUE means only that no fault was met. */
static enum verdict run_body(const uint8_t *tokens, int64_t position, const int64_t *jump, int64_t *stack, int *depth,
                             uint64_t *executed)
{
    struct frame control[CONTROL_ROOM];
    int frames = 0, steps = 0;
    int64_t a = 0, b = 0;
    int64_t *top = stack + *depth; /* one above the top of the stack */
    int64_t *const room = stack + STACK_ROOM;
    uint64_t seen = 0;

#define NEED(count) if (top - stack < (count)) return STACK_UNDERFLOW
#define PUSH(value) do { if (top == room) return STACK_OVERFLOW; *top = (value); top++; } while (0)
#define IN_RANGE(value) if ((value) > LARGEST || (value) < -LARGEST) return VALUE_OVERFLOW
#define UNARY(expression) do { NEED(1); int64_t x = top[-1]; top[-1] = (expression); } while (0)
#define UNARY_CHECKED(expression) \
    do { NEED(1); int64_t x = top[-1], z = (expression); IN_RANGE(z); top[-1] = z; } while (0)
#define BINARY(expression) \
    do { NEED(2); int64_t x = top[-2], y = top[-1]; top--; top[-1] = (expression); } while (0)
#define BINARY_CHECKED(expression) \
    do { NEED(2); int64_t x = top[-2], y = top[-1], z = (expression); IN_RANGE(z); top--; top[-1] = z; } while (0)

    for (;;) {
        int token = tokens[position++];
        if (token == END) break;
        if (steps++ == STEPS) return STEP_LIMIT;
        seen |= bit(token);
        switch (token) {
        case COMMA: case FI: case BEGIN:
            break;
        case OPEN: case ELSE: case DEF:
            position = jump[position - 1];
            break;
        case D0: case D1: case D2: case D3: case D4: case D5: case D6: case D7: case D8: case D9: {
            /* No jump leads into a literal, so its further digits are always executed right behind the first. */
            PUSH(token - D0);
            while (is_digit(tokens[position])) {
                if (steps++ == STEPS) return STEP_LIMIT;
                token = tokens[position++];
                seen |= bit(token);
                int64_t z = 10 * top[-1] + (token - D0);
                IN_RANGE(z);
                top[-1] = z;
            }
            break;
        }
        case ADD: BINARY_CHECKED(x + y); break;
        case SUB: BINARY_CHECKED(x - y); break;
        case MUL: BINARY_CHECKED(x * y); break;
        case DIV: case MOD: {
            NEED(2);
            int64_t x = top[-2], y = top[-1];
            if (y == 0) return DIVISION_BY_ZERO;
            int64_t quotient = x / y, remainder = x % y;
            if (remainder != 0 && (remainder < 0) != (y < 0)) {
                quotient--;
                remainder += y;
            }
            top--;
            top[-1] = token == DIV ? quotient : remainder;
            break;
        }
        case NEG: UNARY(-x); break;
        case ABS: UNARY(x < 0 ? -x : x); break;
        case MIN: BINARY(x < y ? x : y); break;
        case MAX: BINARY(x > y ? x : y); break;
        case INC: UNARY_CHECKED(x + 1); break;
        case DEC: UNARY_CHECKED(x - 1); break;
        case EQ: BINARY(x == y); break;
        case NE: BINARY(x != y); break;
        case LT: BINARY(x < y); break;
        case LE: BINARY(x <= y); break;
        case GT: BINARY(x > y); break;
        case GE: BINARY(x >= y); break;
        case AND: BINARY_CHECKED(x & y); break;
        case OR: BINARY_CHECKED(x | y); break;
        case NOT: UNARY(x == 0); break;
        case XOR: BINARY_CHECKED(x ^ y); break;
        case DUP: NEED(1); PUSH(top[-1]); break;
        case DROP: NEED(1); top--; break;
        case SWAP: {
            NEED(2);
            int64_t x = top[-2];
            top[-2] = top[-1];
            top[-1] = x;
            break;
        }
        case OVER: NEED(2); PUSH(top[-2]); break;
        case ROT: {
            NEED(3);
            int64_t x = top[-3];
            top[-3] = top[-2];
            top[-2] = top[-1];
            top[-1] = x;
            break;
        }
        case PICK: {
            NEED(1);
            int64_t below = top[-1];
            if (below < 0 || below >= top - stack - 1) return STACK_UNDERFLOW;
            top[-1] = top[-2 - below];
            break;
        }
        case SET_A: NEED(1); a = *--top; break;
        case GET_A: PUSH(a); break;
        case SET_B: NEED(1); b = *--top; break;
        case GET_B: PUSH(b); break;
        case IF:
        case UNTIL:
            NEED(1);
            if (*--top == 0) position = jump[position - 1];
            break;
        case TIMES: {
            NEED(1);
            int64_t limit = *--top;
            if (limit <= 0) {
                position = jump[position - 1];
                break;
            }
            if (frames == CONTROL_ROOM) return CONTROL_OVERFLOW;
            control[frames].turns = 0;
            control[frames++].limit = limit;
            break;
        }
        case NEXT:
            if (++control[frames - 1].turns < control[frames - 1].limit) position = jump[position - 1];
            else frames--;
            break;
        case INDEX: PUSH(control[frames - 1].turns); break;
        case CALL:
            if (frames == CONTROL_ROOM) return CONTROL_OVERFLOW;
            control[frames++].back = position;
            position = jump[position - 1];
            break;
        case RET: position = control[--frames].back; break;
        }
    }
    *depth = (int)(top - stack);
    *executed = seen;
    return TRUE;
}

/* ---------------------------------------------------------------------------------------------- the judge */

static enum verdict judge(const uint8_t *tokens, int64_t length, int64_t *jump, struct header *header, int32_t *passed)
{
    int64_t stack[STACK_ROOM];
    int64_t position = 0, size;
    uint64_t present, executed;
    int depth;

    *passed = 0;
    if (length > 0 && tokens[0] == BOS) position = 1;
    bool headed = position < length && tokens[position] >= CASE && tokens[position] <= EXACTLY;
    if (headed) {
        header->cases = header->directives = 0;
        header->use = header->avoid = 0;
        header->least = 0;
        header->most = INT64_MAX;
        if (!read_header(tokens, length, &position, header)) goto ungrammatical;
    }
    if (!check_body(tokens, length, position, jump, &present, &size)) goto ungrammatical;

    if (!headed) {
        depth = 0;
        enum verdict fault = run_body(tokens, position, jump, stack, &depth, &executed);
        if (fault != TRUE) return fault;
        if (depth != 1 || stack[0] != 1) return FALSE;
        *passed = 1;
        return TRUE;
    }

    if ((present & header->avoid) != 0 || size < header->least || size > header->most) return DIRECTIVE;
    static const struct test_case bare = {.inputs = 0, .outputs = 1, .output = {1}};
    int runs = header->cases > 0 ? header->cases : 1;
    bool used = true;
    enum verdict first = TRUE; /* the verdict of the first run that is not true */
    for (int run = 0; run < runs; run++) {
        const struct test_case *test = header->cases > 0 ? &header->test[run] : &bare;
        depth = test->inputs;
        memcpy(stack, test->input, (size_t)depth * sizeof stack[0]);
        enum verdict verdict = run_body(tokens, position, jump, stack, &depth, &executed);
        if (verdict == TRUE) {
            if (depth != test->outputs || memcmp(stack, test->output, (size_t)depth * sizeof stack[0]) != 0)
                verdict = FALSE;
            else
                ++*passed;
            used = used && (header->use & ~executed) == 0;
        }
        if (first == TRUE) first = verdict;
    }
    return first == TRUE && !used ? DIRECTIVE : first;

ungrammatical:
    return memchr(tokens, END, (size_t)length) != NULL ? SYNTAX : UNTERMINATED;
}

/* Judges `count` programs of `length` tokens each, one row a program, ids 0 to 64. Gives 0, or -1 without memory. */
int judge_batch(const uint8_t *programs, int64_t count, int64_t length, uint8_t *verdicts, int32_t *passed)
{
    struct header header;
    int64_t *jump = malloc((size_t)(length > 0 ? length : 1) * sizeof *jump);
    if (jump == NULL) return -1;
    for (int64_t k = 0; k < count; k++)
        verdicts[k] = (uint8_t)judge(programs + k * length, length, jump, &header, &passed[k]);
    free(jump);
    return 0;
}
