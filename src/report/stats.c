/* Student's t through the incomplete beta function (Abramowitz and Stegun 26.5.8, 26.7.1). */
#include "base/compat.h"

#include "report/stats.h"

/* The continued fraction of I_x(a, b), by Lentz's method. */
static double fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1.0;
    double d = 1.0 - (a + b) * x / (a + 1.0);
    d = 1.0 / (fabs(d) < tiny ? tiny : d);
    double h = d;

    for (int m = 1; m <= 300; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1.0 + even * d;
        c = 1.0 + even / c;
        d = 1.0 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        h *= d * c;
        d = 1.0 + odd * d;
        c = 1.0 + odd / c;
        d = 1.0 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        h *= d * c;
        if (fabs(d * c - 1.0) < 1e-15)
            break;
    }
    return h;
}

static double incomplete_beta(double a, double b, double x)
{
    if (x <= 0.0 || x >= 1.0)
        return x <= 0.0 ? 0.0 : 1.0;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1.0) / (a + b + 2.0) ? front * fraction(a, b, x) / a
                                         : 1.0 - front * fraction(b, a, 1.0 - x) / b;
}

double fk_t_probability(double t, double degrees)
{
    double tail = 0.5 * incomplete_beta(degrees / 2.0, 0.5, degrees / (degrees + t * t));

    return t > 0.0 ? 1.0 - tail : tail;
}

double fk_t_quantile(double p, double degrees)
{
    double low = -1e4;
    double high = 1e4;

    for (int i = 0; i < 200; i++) {
        double middle = (low + high) / 2.0;
        if (fk_t_probability(middle, degrees) < p)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2.0;
}

fk_sample fk_sample_of(const double *values, int n)
{
    fk_sample s = {.n = n, .low = -INFINITY, .high = INFINITY};
    double squares = 0.0;

    for (int i = 0; i < n; i++)
        s.mean += values[i] / n;
    if (n < 2)
        return s;
    for (int i = 0; i < n; i++)
        squares += (values[i] - s.mean) * (values[i] - s.mean);
    s.deviation = sqrt(squares / (n - 1));
    double half = fk_t_quantile(0.975, n - 1) * s.deviation / sqrt(n);
    s.low = s.mean - half;
    s.high = s.mean + half;
    return s;
}
