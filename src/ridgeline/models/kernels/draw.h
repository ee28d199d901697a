// Drawing a token per row, once per number format: kernels.c includes this file as it does kernels.h.
//
// Tokens are ordered by falling logit, equal ones by rising id. Whatever top-k, top-p and min-p keep is a beginning of
// that order, so that the place where it ends (struct border) says all. To find it without sorting a vocabulary, tokens
// are counted and weighed in bins of the distance to the best logit; only the bin that holds the end is sorted.

#ifndef DRAW_BINS
#define DRAW_BINS 2048
#define BINS_PER_UNIT 32.0f

struct candidate { float logit; int64_t id; };
// Kept are logits above `logit`, and equal ones up to `id`; `mass` is the sum of exp((logit - best) / temperature).
struct border { float logit; int64_t id; double mass; };

static int by_rank(const void *one, const void *other) {
    const struct candidate *a = one, *b = other;
    if (a->logit != b->logit) return a->logit > b->logit ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static inline int32_t bin_of(float logit, float best) {
    float distance = (best - logit) * BINS_PER_UNIT;
    return (int32_t)(distance < DRAW_BINS - 1 ? distance : DRAW_BINS - 1);
}
#endif

// How many tokens, and how much mass, lie in each bin.
static void NAME(fill_bins)(const REAL *line, int64_t vocabulary, float best, float inverse, double *counts,
                            double *masses) {
    memset(counts, 0, DRAW_BINS * sizeof(double));
    memset(masses, 0, DRAW_BINS * sizeof(double));
    for (int64_t start = 0; start < vocabulary; start += DRAW_BLOCK) {
        int64_t length = vocabulary - start < DRAW_BLOCK ? vocabulary - start : DRAW_BLOCK;
        float mass[DRAW_BLOCK];
        int32_t bin[DRAW_BLOCK];
#pragma omp simd
        for (int64_t i = 0; i < length; i++) {
            float logit = READ(line[start + i]);
            mass[i] = exp_((logit - best) * inverse);
            bin[i] = bin_of(logit, best);
        }
        for (int64_t i = 0; i < length; i++) counts[bin[i]] += 1, masses[bin[i]] += mass[i];
    }
}

// The end of the beginning that is kept when a token stays while what lies before it is below `limit`: tokens (`by_mass`
// 0, `limit` k) or mass (`by_mass` 1).
static struct border NAME(find_border)(const REAL *line, int64_t vocabulary, float best, float inverse,
                                       const double *counts, const double *masses, int64_t by_mass, double limit) {
    const double *weights = by_mass ? masses : counts;
    double before = 0, mass = 0;
    int64_t bin = 0;
    while (bin < DRAW_BINS - 1 && before + weights[bin] < limit) before += weights[bin], mass += masses[bin++];
    struct candidate *found = malloc(((size_t)counts[bin] + 1) * sizeof *found);
    int64_t number = 0;
    for (int64_t i = 0; i < vocabulary; i++)
        if (bin_of(READ(line[i]), best) == bin) found[number++] = (struct candidate){READ(line[i]), i};
    qsort(found, number, sizeof *found, by_rank);
    // Tokens of earlier bins are kept whatever this one holds; +inf with no id keeps just them when it holds nothing.
    struct border border = {INFINITY, -1, mass};
    for (int64_t i = 0; i < number && before < limit; i++) {
        float own = exp_((found[i].logit - best) * inverse);
        border = (struct border){found[i].logit, found[i].id, border.mass + own};
        before += by_mass ? own : 1;
    }
    free(found);
    return border;
}

static inline struct border NAME(tighter)(struct border one, struct border other) {
    if (one.logit != other.logit) return one.logit > other.logit ? one : other;
    return one.id < other.id ? one : other;
}

// What top-k, then top-p, then min-p leave of a row; 0, 1 and 0 turn them off.
static struct border NAME(support)(const REAL *line, int64_t vocabulary, float best, double temperature, int64_t top_k,
                                   double top_p, double min_p) {
    float inverse = 1 / temperature;
    struct border kept = {-INFINITY, vocabulary, 0};
    double counts[DRAW_BINS], masses[DRAW_BINS];
    if ((top_k > 0 && top_k < vocabulary) || top_p < 1) {
        NAME(fill_bins)(line, vocabulary, best, inverse, counts, masses);
        for (int64_t bin = 0; bin < DRAW_BINS; bin++) kept.mass += masses[bin];
    }
    if (top_k > 0 && top_k < vocabulary)
        kept = NAME(find_border)(line, vocabulary, best, inverse, counts, masses, 0, top_k);
    if (top_p < 1)
        kept = NAME(tighter)(kept, NAME(find_border)(line, vocabulary, best, inverse, counts, masses, 1,
                                                     top_p * kept.mass));
    if (min_p > 0)
        kept = NAME(tighter)(kept, (struct border){best + (float)(temperature * log(min_p)), vocabulary, 0});
    return kept;
}

// exp((logit - best) / temperature) of what is kept of one block, 0 of the rest, into `mass`; returns the sum.
static inline float NAME(weigh)(const REAL *line, int64_t block, int64_t vocabulary, float best, float inverse,
                                struct border kept, float *mass) {
    int64_t start = block * DRAW_BLOCK, ties = kept.id - start;
    int32_t length = vocabulary - start < DRAW_BLOCK ? vocabulary - start : DRAW_BLOCK;
    int32_t upto = ties < -1 ? -1 : (ties < DRAW_BLOCK ? ties : DRAW_BLOCK); // ids of ties, in 32 bits for the vectors
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < length; i++) {
        float logit = READ(line[start + i]), own = exp_((logit - best) * inverse);
        mass[i] = (logit > kept.logit) | ((logit == kept.logit) & (i <= upto)) ? own : 0;
        sum += mass[i];
    }
    return sum;
}

// One token of one row by inverting the cumulative distribution, in order of ids, of softmax(logits / temperature) over
// what is kept, at `uniform`. Block sums come first, so that only one block is walked; returns the log-prob in nats.
static double NAME(draw_row)(const REAL *line, int64_t vocabulary, float best, float inverse, struct border kept,
                             double uniform, int64_t *token) {
    int64_t blocks = (vocabulary + DRAW_BLOCK - 1) / DRAW_BLOCK, last = 0, block = 0;
    float mass[DRAW_BLOCK];
    double total = 0, sums[blocks];
    for (int64_t each = 0; each < blocks; each++) {
        sums[each] = NAME(weigh)(line, each, vocabulary, best, inverse, kept, mass);
        total += sums[each];
        if (sums[each] > 0) last = each;
    }
    // The last block, and its last token, that has mass stays when rounding runs past the end.
    double left = uniform * total;
    while (block < last && left >= sums[block]) left -= sums[block++];
    NAME(weigh)(line, block, vocabulary, best, inverse, kept, mass);
    int64_t start = block * DRAW_BLOCK, chosen = start;
    for (int64_t i = 0; i < DRAW_BLOCK && start + i < vocabulary; i++) {
        if (mass[i] <= 0) continue;
        chosen = start + i;
        if (left < mass[i]) break;
        left -= mass[i];
    }
    *token = chosen;
    return ((double)READ(line[chosen]) - best) * inverse - log(total);
}

// One token per row at uniform[row]; temperature 0 takes the first of the best, with certainty.
void NAME(draw)(const REAL *logits, const double *uniform, int64_t *tokens, double *log_probs, int64_t rows,
                int64_t vocabulary, int64_t top_k, double temperature, double top_p, double min_p) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const REAL *line = logits + row * vocabulary;
        float best = READ(line[0]);
#pragma omp simd reduction(max : best)
        for (int64_t i = 0; i < vocabulary; i++) best = READ(line[i]) > best ? READ(line[i]) : best;
        if (temperature > 0) {
            struct border kept = NAME(support)(line, vocabulary, best, temperature, top_k, top_p, min_p);
            log_probs[row] = NAME(draw_row)(line, vocabulary, best, 1 / temperature, kept, uniform[row], tokens + row);
        } else {
            tokens[row] = 0, log_probs[row] = 0;
            while (tokens[row] < vocabulary - 1 && READ(line[tokens[row]]) != best) tokens[row]++;
        }
    }
}
